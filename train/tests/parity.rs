//! Losses, gradients and one optimizer step against PyTorch (fixtures/make_training_fixtures.py).

use burn::tensor::Device;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use stheno::model::ModelConfig;
use stheno_train::{
    AdamWSettings, Decay, EagleLearner, EagleSettings, EagleTraining, Example, Features, Gradients,
    HeldOut, Learner, MedusaLearner, MedusaSettings, Parameter, Precision, Result, RunSettings,
    Schedule, Source, Target, run,
};

const TOLERANCE: f32 = 1e-5;

struct Fixture {
    bytes: Vec<u8>,
    settings: Value,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let bytes = std::fs::read(dir.join(format!("{name}.safetensors"))).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let settings = &header.metadata().as_ref().unwrap()["settings"];
        let settings = serde_json::from_str(settings).unwrap();
        Fixture { bytes, settings }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        let data = view.data().as_chunks::<4>().0;
        data.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn integers(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::I64, "{name}");
        let data = view.data().as_chunks::<8>().0;
        data.iter().map(|b| i64::from_le_bytes(*b) as u32).collect()
    }

    fn number(&self, name: &str) -> f64 {
        self.settings[name].as_f64().unwrap()
    }

    fn target(&self) -> Arc<Target> {
        let norm = self.floats("target.norm");
        let (h, embedding) = (norm.len(), self.floats("target.embedding"));
        let json = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": h,
            "intermediate_size": 2 * h,
            "num_hidden_layers": 6,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": embedding.len() / h,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
        });
        Arc::new(Target {
            config: ModelConfig::from_json(&json, Path::new("config.json")).unwrap(),
            embedding,
            lm_head: Some(self.floats("target.head")),
            norm,
        })
    }

    fn example(&self, index: usize) -> (Example, Features) {
        let name = |name: &str| format!("example.{index}.{name}");
        let answer = self.integers(&name("answer"));
        let example = Example {
            tokens: self.integers(&name("tokens")),
            answer: answer.into_iter().map(|a| a == 1).collect(),
        };
        let features = Features {
            aux: self.floats(&name("aux")),
            last: self.floats(&name("last")),
        };
        (example, features)
    }
}

impl Source for Fixture {
    fn len(&self) -> usize {
        2
    }

    fn get(&mut self, index: usize) -> Result<(Example, Features)> {
        Ok(self.example(index))
    }
}

fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs() / largest;
        assert!(
            error <= TOLERANCE,
            "{what}: {found} instead of {expected} of at most {largest}"
        );
    }
}

/// Gives a learner the fixture's parameters; their names.
fn prepare(fixture: &Fixture, learner: &mut dyn Learner) -> Vec<String> {
    let names: Vec<String> = learner
        .parameters()
        .iter()
        .map(|p| p.name.clone())
        .collect();
    for name in &names {
        let values = fixture.floats(&format!("parameter.{name}"));
        learner.parameters_mut().set(name, values).unwrap();
    }
    names
}

/// Adds gradients, in the order of a file.
fn add(sums: &mut Vec<Vec<f32>>, learner: &dyn Learner, gradients: &Gradients) {
    let all = learner.parameters().iter().zip(gradients.iter());
    for (i, (parameter, gradient)) in all.enumerate() {
        let like = Parameter {
            value: gradient.clone(),
            ..parameter.clone()
        };
        let values = like.values().unwrap();
        match sums.get_mut(i) {
            Some(sum) => sum.iter_mut().zip(values).for_each(|(a, b)| *a += b),
            None => sums.push(values),
        }
    }
}

fn agrees(mut fixture: Fixture, learner: &mut dyn Learner) {
    let names = prepare(&fixture, learner);
    let mut sums: Vec<Vec<f32>> = Vec::new();
    for index in 0..2 {
        let (example, features) = fixture.example(index);
        let (measures, gradients) = learner.learn(&example, &features).unwrap();
        let evaluated = learner.evaluate(&example, &features).unwrap();
        let losses = fixture.floats(&format!("example.{index}.losses"));
        let counted = fixture.integers(&format!("example.{index}.counted"));
        let right = fixture.integers(&format!("example.{index}.right"));
        for measures in [&measures, &evaluated] {
            let found: Vec<f32> = measures.iter().map(|m| m.loss as f32).collect();
            close("loss", &found, &losses);
            let found: Vec<u32> = measures.iter().map(|m| m.counted as u32).collect();
            assert_eq!(found, counted);
            let found: Vec<u32> = measures.iter().map(|m| m.right as u32).collect();
            assert_eq!(found, right);
        }
        for measure in &evaluated {
            assert_eq!(measure.ranks[0], measure.right);
        }
        add(&mut sums, learner, &gradients.unwrap());
    }
    for (name, sum) in names.iter().zip(&sums) {
        close(name, sum, &fixture.floats(&format!("gradient.{name}")));
    }
    let betas = &fixture.settings["betas"];
    let settings = RunSettings {
        batch: 2,
        held_out: HeldOut::Count(0),
        schedule: Schedule {
            learning_rate: fixture.number("lr"),
            warmup_steps: 0,
            decay: Decay::Constant,
            floor: 1.0,
        },
        optimizer: AdamWSettings {
            betas: [betas[0].as_f64().unwrap(), betas[1].as_f64().unwrap()],
            eps: fixture.number("adam_eps"),
            weight_decay: fixture.number("weight_decay"),
            max_grad_norm: fixture.number("clip"),
        },
        ..RunSettings::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let outcome = run(
        learner,
        &mut fixture,
        &settings,
        dir.path(),
        false,
        &stop,
        &mut |_| {},
    );
    assert!(outcome.unwrap().finished);
    let log = stheno_train::read_log(&dir.path().join("log.jsonl")).unwrap();
    let [stheno_train::Record::Step(step)] = log.as_slice() else {
        panic!("{log:?}");
    };
    let norm = fixture.number("grad_norm");
    assert!((step.grad_norm - norm).abs() <= 1e-5 * norm);
    for parameter in learner.parameters().iter() {
        let expected = fixture.floats(&format!("after.{}", parameter.name));
        close(&parameter.name, &parameter.values().unwrap(), &expected);
    }
}

fn eagle() -> (Fixture, EagleLearner) {
    let fixture = Fixture::read("eagle3");
    let settings: EagleSettings =
        serde_json::from_value(fixture.settings["layer"].clone()).unwrap();
    let training = EagleTraining {
        steps: fixture.number("steps") as usize,
        decay: fixture.number("decay"),
        head_from_target: false,
        ..EagleTraining::default()
    };
    let (target, vocabulary) = (fixture.target(), fixture.integers("vocabulary"));
    let device = Device::flex();
    let learner = EagleLearner::new(settings, training, target, vocabulary, 0, &device);
    (fixture, learner.unwrap())
}

#[test]
fn eagle_is_pytorchs() {
    let (fixture, mut learner) = eagle();
    agrees(fixture, &mut learner);
}

#[test]
fn eagle_in_bf16_is_near_it() {
    let (fixture, mut learner) = eagle();
    prepare(&fixture, &mut learner);
    learner.parameters_mut().set_precision(Precision::Bf16);
    let (mut difference, mut whole) = (0.0, 0.0);
    let mut sums: Vec<Vec<f32>> = Vec::new();
    for index in 0..2 {
        let (example, features) = fixture.example(index);
        let (measures, gradients) = learner.learn(&example, &features).unwrap();
        let losses = fixture.floats(&format!("example.{index}.losses"));
        for (measure, loss) in measures.iter().zip(losses) {
            let error = (measure.loss as f32 - loss).abs();
            assert!(error <= 0.01 * loss, "{} and {loss}", measure.loss);
        }
        add(&mut sums, &learner, &gradients.unwrap());
    }
    for (parameter, sum) in learner.parameters().iter().zip(&sums) {
        let expected = fixture.floats(&format!("gradient.{}", parameter.name));
        for (found, expected) in sum.iter().zip(&expected) {
            difference += f64::from(found - expected).powi(2);
            whole += f64::from(*expected).powi(2);
        }
    }
    let share = (difference / whole).sqrt();
    // bf16 has 8 bits; were nothing rounded there would be no difference to PyTorch's f32 at all.
    assert!(share < 0.02 && share > 1e-5, "{share}");
}

fn medusa(name: &str) {
    let fixture = Fixture::read(name);
    let settings = MedusaSettings {
        heads: fixture.number("steps") as usize,
        decay: fixture.number("decay"),
        own_matrices: fixture.settings["own_matrices"].as_bool().unwrap(),
        soft_targets: fixture.settings["soft_targets"].as_bool().unwrap(),
    };
    let (target, vocabulary) = (fixture.target(), fixture.integers("vocabulary"));
    let device = Device::flex();
    let mut learner = MedusaLearner::new(settings, target, vocabulary, &device).unwrap();
    agrees(fixture, &mut learner);
}

#[test]
fn medusa_is_pytorchs() {
    medusa("medusa");
}

#[test]
fn medusa_with_own_matrices_and_soft_targets_is_pytorchs() {
    medusa("medusa-own-soft");
}
