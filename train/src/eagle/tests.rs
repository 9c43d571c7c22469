use super::*;
use crate::parameters::read;
use std::path::Path;
use stheno::model::ModelConfig;

const H: usize = 16;
const VOCAB: usize = 40;

fn learner(later_share: f64) -> EagleLearner {
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
    let target = Arc::new(Target {
        config: ModelConfig::from_json(&json, Path::new("config.json")).unwrap(),
        embedding: Random::new(1, 1).uniform(VOCAB * H, 0.5),
        lm_head: None,
        norm: vec![1.0; H],
    });
    let vocabulary: Vec<u32> = (0..VOCAB as u32).filter(|id| id % 4 != 3).collect();
    let settings = EagleSettings::of(&target.config, vocabulary.len());
    let training = EagleTraining {
        steps: 3,
        later_share,
        ..EagleTraining::default()
    };
    EagleLearner::new(settings, training, target, vocabulary, 1, &Device::flex()).unwrap()
}

fn example() -> (Example, Features) {
    let mut random = Random::new(5, 1);
    let example = Example {
        tokens: (0..30)
            .map(|_| (random.unit() * VOCAB as f64) as u32)
            .collect(),
        answer: (0..30).map(|t| t > 5 && t != 20).collect(),
    };
    let features = Features {
        aux: random.uniform(30 * 3 * H, 2.0),
        last: random.uniform(30 * H, 2.0),
    };
    (example, features)
}

fn gradients(learner: &EagleLearner, goes_on: &dyn Fn(usize) -> bool) -> (Vec<Measure>, Vec<f32>) {
    let (example, features) = example();
    let (leaves, weights) = learner.parameters.leaves();
    let asks = Asks::Gradients(goes_on);
    let (measures, scored) = learner.score(&example, &features, weights, asks).unwrap();
    let scored = scored.unwrap();
    let head = scored.head.into_iter().collect();
    let gradients = backward(scored.outputs, scored.known, leaves, head).unwrap();
    let values = gradients.iter().flat_map(|g| read(g.clone()).unwrap());
    (measures, values.collect())
}

#[test]
fn positions_go_on_each_by_itself() {
    let learner = learner(1.0);
    let (all, whole) = gradients(&learner, &|_| true);
    let (even, of_even) = gradients(&learner, &|t| t % 2 == 0);
    let (odd, of_odd) = gradients(&learner, &|t| t % 2 == 1);
    let (none, of_none) = gradients(&learner, &|_| false);
    assert_eq!([even[0].loss, odd[0].loss, none[0].loss], [all[0].loss; 3]);
    for step in 1..3 {
        assert!(even[step].counted > 0 && odd[step].counted > 0);
        assert_eq!(
            even[step].positions + odd[step].positions,
            all[step].positions
        );
        assert_eq!(even[step].counted + odd[step].counted, all[step].counted);
        assert!((even[step].loss + odd[step].loss - all[step].loss).abs() < 1e-4);
        assert_eq!(none[step], Measure::default());
    }
    // Step 0 is in both halves.
    let largest = whole.iter().fold(0f32, |most, x| most.max(x.abs()));
    let parts = of_even.iter().zip(&of_odd).zip(&of_none);
    for (((even, odd), none), whole) in parts.zip(&whole) {
        assert!((even + odd - none - whole).abs() < 1e-5 * largest);
    }
}

#[test]
fn a_share_of_positions_goes_on() {
    let (example, features) = example();
    let (all, _) = learner(1.0).learn(&example, &features).unwrap();
    let (some, found) = learner(0.5).learn(&example, &features).unwrap();
    // Half of them, twice as heavy: twice what they add to step 0.
    let (_, of_some) = gradients(&learner(1.0), &learner(0.5).goes_on(&example));
    let (_, of_none) = gradients(&learner(1.0), &|_| false);
    let found = found.unwrap();
    let found: Vec<f32> = found
        .iter()
        .flat_map(|g| read(g.clone()).unwrap())
        .collect();
    let largest = found.iter().fold(0f32, |most, x| most.max(x.abs()));
    for ((found, some), none) in found.iter().zip(&of_some).zip(&of_none) {
        assert!((2.0 * some - none - found).abs() < 1e-5 * largest);
    }
    assert_eq!(some[0], all[0]);
    assert!(some[1].positions > 0 && some[1].positions < all[1].positions);
    // Evaluation is of all.
    let evaluated = learner(0.5).evaluate(&example, &features).unwrap();
    assert_eq!(evaluated[2].positions, all[2].positions);
    assert!((evaluated[2].loss - all[2].loss).abs() < 1e-4);
}
