//! A run that is stopped anywhere and resumed comes to the same parameters, bit for bit, and to the same log.

use burn::tensor::Device;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stheno::model::ModelConfig;
use stheno_train::{
    EagleLearner, EagleSettings, EagleTraining, Example, Features, HeldOut, Learner, MedusaLearner,
    MedusaSettings, Outcome, Progress, Record, Result, RunSettings, Schedule, Source, Target,
    read_log, restore, run,
};

const VOCAB: usize = 50;
const H: usize = 16;

/// A generator good enough for weights and texts.
fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}

fn target() -> Arc<Target> {
    let json = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": H,
        "intermediate_size": 24,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    });
    let mut number = random(1);
    Arc::new(Target {
        config: ModelConfig::from_json(&json, Path::new("config.json")).unwrap(),
        embedding: (0..VOCAB * H).map(|_| number()).collect(),
        lm_head: None,
        norm: vec![1.0; H],
    })
}

struct Texts;

impl Source for Texts {
    fn len(&self) -> usize {
        13
    }

    fn get(&mut self, index: usize) -> Result<(Example, Features)> {
        let mut number = random(100 + index as u64);
        let length = 12 + index;
        // Example 5 has nothing to learn.
        let answer = |t: usize| t > 4 && index != 5;
        Ok((
            Example {
                tokens: (0..length)
                    .map(|_| ((number() + 0.5) * VOCAB as f32) as u32)
                    .collect(),
                answer: (0..length).map(answer).collect(),
            },
            Features {
                aux: (0..length * 3 * H).map(|_| number() * 4.0).collect(),
                last: (0..length * H).map(|_| number() * 2.0).collect(),
            },
        ))
    }
}

fn eagle() -> Box<dyn Learner> {
    let target = target();
    let vocabulary: Vec<u32> = (0..VOCAB as u32).filter(|id| id % 5 != 3).collect();
    let settings = EagleSettings::of(&target.config, vocabulary.len());
    let training = EagleTraining {
        steps: 2,
        ..EagleTraining::default()
    };
    let device = Device::flex();
    Box::new(EagleLearner::new(settings, training, target, vocabulary, 5, &device).unwrap())
}

fn medusa() -> Box<dyn Learner> {
    let vocabulary: Vec<u32> = (0..VOCAB as u32).filter(|id| id % 5 != 3).collect();
    let settings = MedusaSettings {
        heads: 2,
        ..MedusaSettings::default()
    };
    Box::new(MedusaLearner::new(settings, target(), vocabulary, &Device::flex()).unwrap())
}

/// 11 examples in batches of 3: 4 steps an epoch, the last of them of 2 examples.
fn settings() -> RunSettings {
    RunSettings {
        batch: 3,
        epochs: 3,
        max_steps: Some(10),
        seed: 9,
        held_out: HeldOut::Count(2),
        schedule: Schedule {
            learning_rate: 3e-3,
            warmup_steps: 3,
            ..Schedule::default()
        },
        parallel: 1,
        evaluate_every: Some(4),
        checkpoint_every: Some(4),
        ..RunSettings::default()
    }
}

fn go(
    learner: &mut dyn Learner,
    settings: &RunSettings,
    dir: &Path,
    stop_after: Option<u64>,
) -> Result<Outcome> {
    let stop = AtomicBool::new(false);
    let mut progress = |progress: Progress<'_>| {
        if let Progress::Step(record) = progress
            && Some(record.step) == stop_after
        {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let resume = true;
    run(
        learner,
        &mut Texts,
        settings,
        dir,
        resume,
        &stop,
        &mut progress,
    )
}

fn bits(learner: &dyn Learner) -> Vec<Vec<u32>> {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let parameters = learner.parameters().iter();
    parameters.map(|p| bits(p.values().unwrap())).collect()
}

/// A log without what the clock decides.
fn log(dir: &Path) -> Vec<Record> {
    let mut records = read_log(&dir.join("log.jsonl")).unwrap();
    for record in &mut records {
        if let Record::Step(step) = record {
            (step.seconds, step.tokens_per_second) = (0.0, 0.0);
        }
    }
    records
}

fn resumes(fresh: fn() -> Box<dyn Learner>) {
    let whole = tempfile::tempdir().unwrap();
    let mut unbroken = fresh();
    let start = bits(unbroken.as_ref());
    let settings = settings();
    let outcome = go(unbroken.as_mut(), &settings, whole.path(), None).unwrap();
    assert!(outcome.finished && outcome.step == 10);
    assert!(outcome.evaluation.is_some());
    let end = bits(unbroken.as_ref());
    assert_ne!(start, end);
    // In the middle of an epoch, at its end, at a checkpoint, and twice.
    for stops in [vec![1], vec![4], vec![3, 6], vec![8, 9]] {
        let dir = tempfile::tempdir().unwrap();
        for &stop in &stops {
            let outcome = go(fresh().as_mut(), &settings, dir.path(), Some(stop)).unwrap();
            assert!(!outcome.finished && outcome.step == stop);
        }
        let mut resumed = fresh();
        assert!(
            go(resumed.as_mut(), &settings, dir.path(), None)
                .unwrap()
                .finished
        );
        assert!(bits(resumed.as_ref()) == end, "stopped after {stops:?}");
        assert_eq!(log(dir.path()), log(whole.path()));
        let mut restored = fresh();
        assert_eq!(restore(restored.as_mut(), dir.path()).unwrap(), Some(10));
        assert!(bits(restored.as_ref()) == end);
        let kept = std::fs::read_dir(dir.path().join("checkpoints")).unwrap();
        assert_eq!(kept.count(), 2);
    }
}

#[test]
fn eagle_resumes() {
    resumes(eagle);
}

#[test]
fn medusa_resumes() {
    resumes(medusa);
}

/// What a killed run leaves: a log past its checkpoint, half a line, and half a checkpoint.
#[test]
fn a_killed_run_resumes() {
    let whole = tempfile::tempdir().unwrap();
    let mut unbroken = eagle();
    go(unbroken.as_mut(), &settings(), whole.path(), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    go(eagle().as_mut(), &settings(), dir.path(), Some(6)).unwrap();
    let checkpoints = dir.path().join("checkpoints");
    std::fs::remove_dir_all(checkpoints.join("step-00000006")).unwrap();
    std::fs::create_dir(checkpoints.join(".step-00000008.tmp")).unwrap();
    let file = dir.path().join("log.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "{\"event\":\"st").unwrap();
    let mut resumed = eagle();
    go(resumed.as_mut(), &settings(), dir.path(), None).unwrap();
    assert!(bits(resumed.as_ref()) == bits(unbroken.as_ref()));
    assert_eq!(log(dir.path()), log(whole.path()));
}

#[test]
fn another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    go(eagle().as_mut(), &settings(), dir.path(), Some(2)).unwrap();
    let refused = |learner: &mut dyn Learner, settings: &RunSettings, says: &str| {
        let error = go(learner, settings, dir.path(), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(medusa().as_mut(), &settings(), "another draft");
    let mut other = settings();
    other.batch = 4;
    refused(eagle().as_mut(), &other, "other training settings");
    let stop = AtomicBool::new(false);
    let error = run(
        eagle().as_mut(),
        &mut Texts,
        &settings(),
        dir.path(),
        false,
        &stop,
        &mut |_| {},
    );
    assert!(error.unwrap_err().to_string().contains("of an earlier run"));
    // How often it is evaluated may change.
    let mut other = settings();
    other.evaluate_every = None;
    assert!(
        go(eagle().as_mut(), &other, dir.path(), None)
            .unwrap()
            .finished
    );
}
