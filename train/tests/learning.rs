//! Drafts learn what can be learnt: a target whose next token is a function of the last one.

use burn::tensor::Device;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use stheno::model::ModelConfig;
use stheno_train::{
    EagleLearner, EagleSettings, EagleTraining, EvaluationRecord, Example, Features, HeldOut,
    Learner, MedusaLearner, MedusaSettings, Result, Rounding, RunSettings, Schedule, Source,
    Target, run,
};

const VOCAB: usize = 24;
const H: usize = 32;
/// Tokens of the draft; the others are in texts, but are not guessed.
const KNOWN: usize = 22;

fn embedding() -> Vec<f32> {
    let mut state = 11u64;
    let mut number = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..VOCAB * H).map(|_| number()).collect()
}

/// All tokens after one another, in an order that is not theirs.
fn next(token: u32) -> u32 {
    (token * 5 + 7) % VOCAB as u32
}

fn target() -> Arc<Target> {
    let json = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": H,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    });
    Arc::new(Target {
        config: ModelConfig::from_json(&json, Path::new("config.json")).unwrap(),
        embedding: embedding(),
        lm_head: None,
        norm: vec![1.0; H],
    })
}

struct Texts(Vec<f32>);

impl Source for Texts {
    fn len(&self) -> usize {
        40
    }

    fn get(&mut self, index: usize) -> Result<(Example, Features)> {
        let tokens: Vec<u32> =
            std::iter::successors(Some(index as u32 % VOCAB as u32), |t| Some(next(*t)))
                .take(20)
                .collect();
        let row = |token: u32| &self.0[token as usize * H..][..H];
        let aux = tokens.iter().flat_map(|&t| [row(t); 3].concat());
        // So large that the target is sure of the token to come.
        let last = tokens
            .iter()
            .flat_map(|&t| row(next(t)).iter().map(|x| 5.0 * x));
        let features = Features {
            aux: aux.collect(),
            last: last.collect(),
        };
        let answer = (0..tokens.len()).map(|t| t >= 4).collect();
        Ok((Example { tokens, answer }, features))
    }
}

fn learn(learner: &mut dyn Learner, learning_rate: f64) -> EvaluationRecord {
    let settings = RunSettings {
        batch: 4,
        epochs: 20,
        held_out: HeldOut::Count(4),
        schedule: Schedule {
            learning_rate,
            warmup_steps: 10,
            ..Schedule::default()
        },
        evaluate_every: None,
        checkpoint_every: None,
        ..RunSettings::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let (mut texts, stop) = (Texts(embedding()), AtomicBool::new(false));
    let (resume, mut progress) = (false, |_: stheno_train::Progress<'_>| {});
    let outcome = run(
        learner,
        &mut texts,
        &settings,
        dir.path(),
        resume,
        &stop,
        &mut progress,
    );
    outcome.unwrap().evaluation.unwrap()
}

fn eagle(later_share: f64, rounding: Option<Rounding>, least: f64) {
    let target = target();
    let settings = EagleSettings::of(&target.config, KNOWN);
    let training = EagleTraining {
        steps: 3,
        later_share,
        ..EagleTraining::default()
    };
    let vocabulary = (0..KNOWN as u32).collect();
    let device = Device::flex();
    let mut learner =
        EagleLearner::new(settings, training, target, vocabulary, 1, &device).unwrap();
    learner.parameters_mut().set_rounding(rounding);
    let evaluation = learn(&mut learner, 5e-3);
    for accuracy in &evaluation.accuracy {
        // Those that are not guessed are wrong.
        assert!(*accuracy > least && *accuracy < 0.99, "{evaluation:?}");
    }
}

#[test]
fn eagle_learns() {
    eagle(1.0, None, 0.85);
}

#[test]
fn eagle_learns_with_few_later_steps_and_four_bits() {
    eagle(0.4, Some(Rounding::Q4), 0.75);
}

#[test]
fn medusa_learns() {
    for (own_matrices, soft_targets) in [(false, false), (true, true)] {
        let settings = MedusaSettings {
            heads: 2,
            own_matrices,
            soft_targets,
            ..MedusaSettings::default()
        };
        let vocabulary = (0..KNOWN as u32).collect();
        let mut learner =
            MedusaLearner::new(settings, target(), vocabulary, &Device::flex()).unwrap();
        let evaluation = learn(&mut learner, 2e-2);
        for accuracy in &evaluation.accuracy {
            assert!(*accuracy > 0.75 && *accuracy < 0.99, "{evaluation:?}");
        }
    }
}
