//! From nothing to drafts that guess well: a tiny target is trained, answers prompts, and an EAGLE-3 layer and Medusa heads
//! learn from its answers by the crate's own steps. What they are worth is measured by the engine on prompts that were held back.

mod language;
mod llama;

use burn::tensor::Device;
use language::{Language, VOCAB};
use llama::Llama;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use stheno::checkpoint::Checkpoint;
use stheno::engine::{Engine, GenerateOptions};
use stheno::model::ModelConfig;
use stheno::speculation::{SpeculationOptions, TreeShape};
use stheno_train::data::{
    Conversation, FeatureComputer, FeatureStore, FeatureWriter, Resampler, Settings, Shards, Turn,
    draft_vocabulary, read_examples,
};
use stheno_train::{
    Card, EagleLearner, EagleSettings, EagleTraining, HeldOut, Learner, MedusaLearner,
    MedusaSettings, OutputDtype, RunSettings, Schedule, Target, evaluate, order, run, write_eagle,
    write_medusa,
};

static NEVER: AtomicBool = AtomicBool::new(false);
/// Conversations that drafts learn from; those after them are held back.
const LEARNT: usize = 160;
const HELD_BACK: usize = 16;
/// Of the answers.
const SEED: u64 = 3;

fn conversations(language: &Language) -> Vec<Conversation> {
    let prompt = |id| Conversation {
        id,
        group: None,
        system: None,
        users: vec![Turn::Tokens(language.sentence(1_000_000 + id as u64, 8))],
    };
    (0..LEARNT + HELD_BACK).map(prompt).collect()
}

fn answer(engine: &Engine, all: &[Conversation], dir: &Path, parallel: usize) {
    let settings = Settings {
        max_tokens: 40,
        max_prompt_tokens: 64,
        seed: SEED,
        temperatures: "0:0.7,0.5:0.3".parse().unwrap(),
        shard_size: 50,
    };
    let mut shards = Shards::open(dir, "tiny", all.len(), &settings).unwrap();
    let resampler = Resampler::new(engine, &settings, parallel).unwrap();
    let end = resampler
        .run(all, all.len(), &mut shards, &NEVER, &mut |_| {})
        .unwrap();
    assert_eq!((end.answered, end.left_out), (all.len(), 0));
}

/// Stores the features of the answers.
fn store(model: &Path, target: &Target, answers: &Path, dir: &Path) -> FeatureStore {
    let examples = read_examples(answers, 512).unwrap();
    let aux = EagleSettings::of(&target.config, 1).aux_layers;
    let builder = || {
        Engine::builder()
            .model(model.to_str().unwrap())
            .unwrap()
            .threads(2)
    };
    let mut computer = FeatureComputer::new(builder(), aux, &target.config, &target.norm).unwrap();
    // In two sittings, the first of which was cut off in the middle of an example.
    let open = || FeatureWriter::open(dir, "tiny", 64, aux, examples.len()).unwrap();
    let mut writer = open();
    for example in &examples[..5] {
        writer
            .push(example, &computer.compute(example).unwrap())
            .unwrap();
    }
    drop(writer);
    assert!(
        FeatureStore::open(dir)
            .unwrap_err()
            .to_string()
            .contains("5 of ")
    );
    let data = dir.join("features.bin");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes.extend([1; 77]);
    std::fs::write(&data, bytes).unwrap();
    let mut writer = open();
    assert_eq!(writer.written(), 5);
    for example in &examples[5..] {
        writer
            .push(example, &computer.compute(example).unwrap())
            .unwrap();
    }
    let mut store = FeatureStore::open(dir).unwrap();
    assert_eq!(store.examples().unwrap(), examples);
    store
}

fn settings(epochs: u64) -> RunSettings {
    RunSettings {
        batch: 8,
        epochs,
        held_out: HeldOut::Count(8),
        schedule: Schedule {
            learning_rate: 4e-3,
            warmup_steps: 10,
            ..Schedule::default()
        },
        ..RunSettings::default()
    }
}

/// Tokens that a round gives over the conversations held back, in trees of one shape.
fn accept_len(model: &Path, draft: &Path, held_back: &[Conversation]) -> f64 {
    let engine = Engine::builder().model(model.to_str().unwrap()).unwrap();
    let engine = engine
        .draft(draft.to_str().unwrap())
        .unwrap()
        .threads(2)
        .build()
        .unwrap();
    let mut options = GenerateOptions::greedy(48);
    options.speculation = SpeculationOptions::fixed(TreeShape {
        num_steps: 3,
        topk: 2,
        num_draft_tokens: 8,
    });
    let asked: Vec<&Conversation> = held_back.iter().collect();
    let result = evaluate(&engine, &asked, 64, &options, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(result.answered, HELD_BACK);
    result.all.accept_len()
}

#[test]
fn from_nothing_to_drafts_that_guess_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let model = path("model");
    std::fs::create_dir(&model).unwrap();
    let language = Language::new(5);
    let (llama, loss) = Llama::train(&language, 300);
    assert!(loss < 1.2, "the target has not learnt its language: {loss}");
    llama.write(&model);

    let engine = Engine::builder().model(model.to_str().unwrap()).unwrap();
    let engine = engine.threads(2).build().unwrap();
    let all = conversations(&language);
    let (learnt, held_back) = all.split_at(LEARNT);
    let answers = path("answers");
    answer(&engine, learnt, &answers, 16);
    let mut first = Shards::read(&answers).unwrap();
    // Those that are asked first have the whole mix.
    let begun = order(SEED, LEARNT).into_iter().take(LEARNT / 4);
    let warm = begun
        .filter(|id| first.iter().any(|a| a.id == *id && a.temperature > 0.0))
        .count();
    assert!((LEARNT / 20..LEARNT / 6).contains(&warm), "{warm}");
    // However many at a time, and after a run that was killed in the middle of a line.
    let shard = answers.join("answers-00003.jsonl");
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() - 40]).unwrap();
    answer(&engine, learnt, &answers, 3);
    let mut again = Shards::read(&answers).unwrap();
    first.sort_by_key(|answered| answered.id);
    again.sort_by_key(|answered| answered.id);
    assert_eq!(first, again);

    let checkpoint = Checkpoint::open(&model).unwrap();
    let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path()).unwrap();
    let target = Arc::new(Target::read(&checkpoint, &config).unwrap());
    let mut store = store(&model, &target, &answers, &path("features"));
    let examples = store.examples().unwrap();
    let (vocabulary, coverage) = draft_vocabulary(&examples, VOCAB, 120).unwrap();
    assert!(coverage.tokens > 0.9, "{coverage:?}");

    let device = Device::flex();
    let layer = EagleSettings::of(&config, vocabulary.len());
    let how = EagleTraining {
        steps: 3,
        ..EagleTraining::default()
    };
    let mut eagle = EagleLearner::new(
        layer,
        how,
        Arc::clone(&target),
        vocabulary.clone(),
        1,
        &device,
    )
    .unwrap();
    let mut train = |learner: &mut dyn Learner, name: &str, epochs: u64| {
        let run_dir = path(name).with_extension("run");
        let settings = settings(epochs);
        run(
            learner,
            &mut store,
            &settings,
            &run_dir,
            false,
            &NEVER,
            &mut |_| {},
        )
        .unwrap()
    };
    let outcome = train(&mut eagle, "eagle3", 5);
    let card = Card::default();
    write_eagle(&eagle, &target, &path("eagle3"), OutputDtype::Bf16, &card).unwrap();
    let accepted = accept_len(&model, &path("eagle3"), held_back);
    println!(
        "EAGLE-3: accept_len {accepted:.2}, {:?}",
        outcome.evaluation
    );
    assert!(accepted > 2.5, "accept_len {accepted}");

    let heads = MedusaSettings::default();
    let mut medusa = MedusaLearner::new(heads, Arc::clone(&target), vocabulary, &device).unwrap();
    let outcome = train(&mut medusa, "medusa", 5);
    write_medusa(
        &medusa,
        &target,
        None,
        &path("medusa"),
        OutputDtype::Bf16,
        &card,
    )
    .unwrap();
    let accepted = accept_len(&model, &path("medusa"), held_back);
    println!("Medusa: accept_len {accepted:.2}, {:?}", outcome.evaluation);
    assert!(accepted > 1.8, "accept_len {accepted}");
}
