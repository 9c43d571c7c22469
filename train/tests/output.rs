//! Drafts as they are written are what the engine opens, and their logits there are those of training.

use burn::tensor::Device;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stheno::checkpoint::{Checkpoint, WeightDtype};
use stheno::engine::{Engine, EngineBuilder, GenerateOptions, SessionOptions};
use stheno::host::{Call, Forward, HostExecutor, KvSequence};
use stheno::model::{ActivationDtype, DraftWeights, ModelConfig, WeightLoader};
use stheno::plan::{Row, SegmentKind, SequenceIndex};
use stheno::speculation::Choices;
use stheno_train::{
    Card, EagleLearner, EagleSettings, EagleTraining, Example, Features, Learner, MedusaLearner,
    MedusaSettings, OutputDtype, Target, tree_of, write_eagle, write_medusa,
};

const TOLERANCE: f32 = 1e-3;

fn target_dir() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("tests/fixtures/drafts/target-llama")
}

fn target() -> Arc<Target> {
    let checkpoint = Checkpoint::open(&target_dir()).unwrap();
    let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path()).unwrap();
    Arc::new(Target::read(&checkpoint, &config).unwrap())
}

fn tokens() -> Vec<u32> {
    (0..40u32).map(|i| (i * i * 7 + i * 13 + 5) % 250).collect()
}

/// Two of three tokens of the target.
fn vocabulary(target: &Target) -> Vec<u32> {
    (0..target.config.vocab_size)
        .filter(|id| id % 3 != 1)
        .collect()
}

fn card() -> Card {
    Card {
        title: "A draft".to_owned(),
        base_model: "target-llama".to_owned(),
        data: "No data.".to_owned(),
        ..Card::default()
    }
}

fn builder(draft: &Path) -> EngineBuilder {
    Engine::builder()
        .model(target_dir().to_str().unwrap())
        .unwrap()
        .draft(draft.to_str().unwrap())
        .unwrap()
        .activation_dtype(ActivationDtype::F32)
        .threads(1)
}

fn executor(draft: &Path) -> HostExecutor {
    let plan = builder(draft).plan().unwrap();
    let target = Checkpoint::open(&target_dir()).unwrap();
    let draft = Checkpoint::open_draft(draft.to_str().unwrap()).unwrap();
    let draft = DraftWeights {
        checkpoint: &draft,
        dtype: WeightDtype::AsStored,
    };
    let weights = WeightLoader::new(&target, Some(draft));
    let weights = { weights }.load(&plan, &mut |_| {}).unwrap();
    HostExecutor::new(Arc::new(plan), weights, 1).unwrap()
}

/// What the draft is fed of the target at all tokens.
fn features(executor: &mut HostExecutor) -> Vec<f32> {
    let tokens = tokens();
    let sequence = KvSequence::new(executor.plan().kv);
    let rows = Row::chain(SequenceIndex(0), 0, &tokens);
    let mut forward = Forward::default();
    executor
        .forward(SegmentKind::Prefill, &rows, &[&sequence], &mut forward)
        .unwrap();
    forward.features().unwrap().to_vec()
}

/// Outputs of the draft's segment, fed `input`.
fn call(
    executor: &mut HostExecutor,
    segment: SegmentKind,
    rows: &mut [Row],
    input: &[f32],
) -> Forward {
    rows.iter_mut().for_each(|row| row.output = true);
    let kv = KvSequence::new(executor.plan().kv_of(SegmentKind::Draft));
    let call = Call {
        segment,
        rows,
        sequences: &[&kv],
        inputs: &[input],
        continues: false,
    };
    let mut forward = Forward::default();
    executor.call(&call, &mut forward).unwrap();
    forward
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= TOLERANCE,
            "element {i}: {found}, expected {expected}"
        );
    }
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(
        largest > 100.0 * TOLERANCE,
        "nothing is compared: {largest}"
    );
}

/// The engine drafts with what was written.
fn drafts(dir: &Path) {
    let engine = builder(dir).build().unwrap();
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let mut options = GenerateOptions::greedy(12);
    options.ignore_eos = true;
    let stream = session.generate(&tokens()[..8], &options).unwrap();
    let tokens: Vec<_> = stream.collect::<Result<_, _>>().unwrap();
    assert_eq!(tokens.len(), 12);
}

fn eagle(aux_layers: Option<[u32; 3]>) {
    let target = target();
    let vocabulary = vocabulary(&target);
    let mut settings = EagleSettings::of(&target.config, vocabulary.len());
    settings.aux_layers = aux_layers.unwrap_or(settings.aux_layers);
    let (training, device) = (EagleTraining::default(), Device::flex());
    let learner =
        EagleLearner::new(settings, training, target.clone(), vocabulary, 3, &device).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_eagle(&learner, &target, dir.path(), OutputDtype::F32, &card()).unwrap();
    let mut executor = executor(dir.path());
    let aux = features(&mut executor);
    let tokens = tokens();
    let example = Example {
        answer: vec![true; tokens.len()],
        tokens,
    };
    let features = Features {
        last: vec![0.0; aux.len() / 3],
        aux,
    };
    let expected = learner.logits(&example, &features).unwrap();
    let mut rows = Row::chain(SequenceIndex(0), 0, &example.tokens[1..]);
    let input = &features.aux[..features.aux.len() / example.tokens.len() * rows.len()];
    let forward = call(&mut executor, SegmentKind::DraftPrefill, &mut rows, input);
    assert_close(forward.output("draft.logits").unwrap(), &expected);
    // As it is published.
    write_eagle(&learner, &target, dir.path(), OutputDtype::Bf16, &card()).unwrap();
    drafts(dir.path());
    let text = std::fs::read_to_string(dir.path().join("README.md")).unwrap();
    assert!(text.contains("| layer.rope_theta | 10000.0 |"), "{text}");
}

#[test]
fn an_eagle_layer_is_the_engines() {
    eagle(None);
}

#[test]
fn an_eagle_layer_of_other_layers_is_the_engines() {
    eagle(Some([0, 4, 7]));
}

/// `weight x` for a weight `[rows, columns]`.
fn product(weight: &[f32], x: &[f32]) -> Vec<f32> {
    let rows = weight.chunks_exact(x.len());
    rows.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect()
}

fn medusa(own_matrices: bool) {
    let target = target();
    let settings = MedusaSettings {
        heads: 3,
        own_matrices,
        ..MedusaSettings::default()
    };
    let vocabulary = vocabulary(&target);
    let device = Device::flex();
    let mut learner = MedusaLearner::new(settings, target.clone(), vocabulary, &device).unwrap();
    let mut state = 1u64;
    let mut number = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.4
    };
    let parameters: Vec<(String, Vec<f32>)> = learner
        .parameters()
        .iter()
        .map(|p| {
            let values = p.values().unwrap();
            (
                p.name.clone(),
                values.into_iter().map(|x| x + number()).collect(),
            )
        })
        .collect();
    for (name, values) in &parameters {
        learner.parameters_mut().set(name, values.clone()).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let accuracy = [vec![0.5, 0.2], vec![0.4, 0.2], vec![0.3, 0.1]];
    let choices = tree_of(&accuracy, 6).unwrap();
    let write = |dtype| {
        let choices = Some(&choices);
        write_medusa(&learner, &target, choices, dir.path(), dtype, &card()).unwrap();
    };
    write(OutputDtype::F32);
    let mut executor = executor(dir.path());
    let last = features(&mut executor);
    let h = target.config.hidden_size as usize;
    let x = &last[last.len() - h..];
    let of = |name: String| &parameters.iter().find(|(n, _)| *n == name).unwrap().1;
    let mut expected = Vec::new();
    for head in 0..3 {
        let block = product(of(format!("{head}.0.linear.weight")), x);
        let bias = of(format!("{head}.0.linear.bias"));
        let sums = block.iter().zip(bias).map(|(w, b)| w + b);
        let out: Vec<f32> = x
            .iter()
            .zip(sums)
            .map(|(x, s)| x + s / (1.0 + (-s).exp()))
            .collect();
        expected.extend(match own_matrices {
            true => product(of(format!("{head}.1.weight")), &out),
            false => product(target.head(), &out),
        });
    }
    let mut rows = Row::chain(SequenceIndex(0), 0, &[7]);
    let forward = call(&mut executor, SegmentKind::Draft, &mut rows, x);
    let logits = (0..3).flat_map(|head| {
        let name = format!("draft.logits.{head}");
        forward.output(&name).unwrap().to_vec()
    });
    assert_close(&logits.collect::<Vec<f32>>(), &expected);
    write(OutputDtype::F16);
    drafts(dir.path());
    let file = dir.path().join("medusa_choices.json");
    assert_eq!(Choices::from_file(&file).unwrap(), choices);
    assert_eq!(choices.nodes(), 6);
}

#[test]
fn medusa_heads_are_the_engines() {
    medusa(false);
}

#[test]
fn medusa_heads_with_matrices_are_the_engines() {
    medusa(true);
}
