//! Speed of training at SmolLM2's sizes.
use std::sync::Arc;
use std::time::Instant;
use stheno_train::*;
fn main() {
    let json = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":576,"intermediate_size":1536,"num_hidden_layers":30,"num_attention_heads":9,"num_key_value_heads":3,"vocab_size":49152,"max_position_embeddings":8192,"rms_norm_eps":1e-5,"rope_theta":100000,"hidden_act":"silu","tie_word_embeddings":true}"#;
    let config = stheno::model::ModelConfig::from_json(
        &serde_json::from_str(json).unwrap(),
        std::path::Path::new("x"),
    )
    .unwrap();
    let mut s = 1u64;
    let mut r = move || {
        s = s
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (s >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let target = Target {
        embedding: (0..49152 * 576).map(|_| r() * 0.2).collect(),
        lm_head: None,
        norm: vec![1.0; 576],
        config,
    };
    let device = burn::tensor::Device::flex();
    let t = 300;
    let example = Example {
        tokens: (0..t).map(|i| (i * 37 % 8000) as u32).collect(),
        answer: (0..t).map(|i| i >= 150).collect(),
    };
    let features = Features {
        aux: (0..t * 3 * 576).map(|_| r() * 10.0).collect(),
        last: (0..t * 576).map(|_| r() * 4.0).collect(),
    };
    let learner = EagleLearner::new(
        EagleSettings::of(&target.config, 8192),
        EagleTraining::default(),
        Arc::new(target),
        (0..8192).collect(),
        0,
        &device,
    )
    .unwrap();
    for _ in 0..6 {
        let start = Instant::now();
        let (m, g) = learner.learn(&example, &features).unwrap();
        let s = start.elapsed().as_secs_f64();
        println!(
            "{s:.3} s, {:.0} answer tokens/s, norm {:.4}, loss {:.4}",
            150.0 / s,
            g.unwrap().norm().unwrap(),
            m[0].mean_loss()
        );
    }
    let start = Instant::now();
    learner.evaluate(&example, &features).unwrap();
    println!("evaluate {:.3} s", start.elapsed().as_secs_f64());
}
