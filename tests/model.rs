//! Configurations to plans: fixtures, snapshots, rotation formulas, hostile files.

use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use stheno::model::{ActivationDtype, ModelConfig, PlanOptions, Precision, build_plan};
use stheno::plan::{Plan, RopeDecl};

fn base(architecture: &str) -> Value {
    json!({
        "architectures": [architecture], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 256,
    })
}

fn with(mut config: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn parse(config: &Value) -> stheno::Result<ModelConfig> {
    ModelConfig::from_json(config, Path::new("config.json"))
}

fn plan(config: &Value, activation: ActivationDtype, context_length: u32) -> Plan {
    let mut options = PlanOptions::new(context_length, Precision::new(activation));
    options.taps = vec![0, 1];
    build_plan(&parse(config).unwrap(), &options).unwrap()
}

fn rope(changes: Value, context_length: u32) -> RopeDecl {
    let config = with(base("LlamaForCausalLM"), changes);
    plan(&config, ActivationDtype::F32, context_length).ropes[0].clone()
}

/// `theta^(-2 i / 16)` in f64.
fn plain(theta: f64) -> Vec<f64> {
    (0..8)
        .map(|i| theta.powf(-2.0 * f64::from(i) / 16.0))
        .collect()
}

fn assert_close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!(
            (f64::from(*f) - e).abs() <= 1e-6 * e,
            "{found:?} {expected:?}"
        );
    }
}

/// What a step made of the file, which a failure names.
fn of<T, E: std::fmt::Display>(path: &Path, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_fixture_has_a_plan() {
    let mut count = 0;
    for entry in std::fs::read_dir("tests/fixtures/models").unwrap() {
        let path = entry.unwrap().path().join("config.json");
        let text = of(&path, std::fs::read_to_string(&path));
        let json: Value = of(&path, serde_json::from_str(&text));
        let config = of(&path, ModelConfig::from_json(&json, &path));
        for activation in [
            ActivationDtype::F32,
            ActivationDtype::BF16,
            ActivationDtype::Q8,
        ] {
            let options = PlanOptions::new(512, Precision::new(activation));
            let plan = of(&path, build_plan(&config, &options));
            assert!(plan.buffer_named("logits").is_some());
        }
        count += 1;
    }
    assert!(count >= 13, "{count} fixtures");
}

#[test]
fn llama_plan() {
    let changes = json!({"tie_word_embeddings": true, "attention_bias": true, "mlp_bias": true});
    let config = with(base("LlamaForCausalLM"), changes);
    insta::assert_snapshot!(plan(&config, ActivationDtype::F32, 256).to_string());
}

#[test]
fn mistral_plan() {
    let config = with(base("MistralForCausalLM"), json!({"sliding_window": 24}));
    insta::assert_snapshot!(plan(&config, ActivationDtype::BF16, 256).to_string());
}

#[test]
fn qwen2_plan() {
    let changes = json!({"use_sliding_window": true, "max_window_layers": 1, "sliding_window": 8});
    let config = with(base("Qwen2ForCausalLM"), changes);
    insta::assert_snapshot!(plan(&config, ActivationDtype::Q8, 256).to_string());
}

#[test]
fn qwen3_plan() {
    let config = with(base("Qwen3ForCausalLM"), json!({"head_dim": 32}));
    insta::assert_snapshot!(plan(&config, ActivationDtype::F32, 256).to_string());
}

#[test]
fn a_plan_survives_json() {
    let scaling = json!({"rope_scaling": {"type": "yarn", "factor": 4.0}});
    let config = with(base("Qwen2ForCausalLM"), scaling);
    let plan = plan(&config, ActivationDtype::Q8, 256);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn default_linear_and_given_factors() {
    assert_close(&rope(json!({}), 64).inv_freq, &plain(1e4));
    let parameters = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}});
    assert_close(&rope(parameters, 64).inv_freq, &plain(5e5));
    let linear = rope(
        json!({"rope_scaling": {"type": "linear", "factor": 3.0}}),
        64,
    );
    let thirds: Vec<_> = plain(1e4).iter().map(|f| f / 3.0).collect();
    assert_close(&linear.inv_freq, &thirds);
    let factors = json!([1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0]);
    let scaling = json!({"rope_scaling": {"rope_type": "factors", "factors": factors}});
    let expected: Vec<_> = (plain(1e4).iter().zip(0..))
        .map(|(f, i)| f / f64::from(1 << (i / 2)))
        .collect();
    assert_close(&rope(scaling, 64).inv_freq, &expected);
}

#[test]
fn dynamic_follows_the_position() {
    let scaling = json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}});
    // The rotation is the position's alone, not the context's that the plan is built for.
    let long = rope(scaling.clone(), 1024);
    assert_eq!(long, rope(scaling, 64));
    assert_close(&long.inv_freq_at(0), &plain(1e4));
    assert_close(&long.inv_freq_at(255), &plain(1e4));
    for position in [256u32, 1023] {
        let length = f64::from(position) + 1.0;
        let theta = 1e4 * (2.0 * length / 256.0 - 1.0).powf(16.0 / 14.0);
        assert_close(&long.inv_freq_at(position), &plain(theta));
    }
    let last = long.inv_freq_at(u32::MAX);
    assert!(last.iter().all(|f| f.is_finite() && *f > 0.0), "{last:?}");
}

#[test]
fn llama3_blends() {
    let scaling = json!({"rope_theta": 500.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}});
    let blend = |f: &f64| {
        let rotations = 32.0 * f / std::f64::consts::TAU;
        let smooth = ((rotations - 1.0) / 3.0).clamp(0.0, 1.0);
        f * smooth + f / 8.0 * (1.0 - smooth)
    };
    let expected: Vec<_> = plain(500.0).iter().map(blend).collect();
    assert_close(&rope(scaling, 64).inv_freq, &expected);
}

#[test]
fn yarn_ramps() {
    let dim = |rotations: f64| {
        16.0 * (32.0 / (rotations * std::f64::consts::TAU)).ln() / (2.0 * 500f64.ln())
    };
    for (truncate, fast, slow) in [(true, 32.0, 1.0), (false, 8.0, 2.0)] {
        let scaling = json!({"rope_theta": 500.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 32, "beta_fast": fast, "beta_slow": slow, "truncate": truncate,
            "mscale": 1.0, "mscale_all_dim": 0.5}});
        let (mut low, mut high) = (dim(fast), dim(slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(15.0));
        let ramp = |(f, i): (&f64, i32)| {
            let stretched = ((f64::from(i) - low) / (high - low)).clamp(0.0, 1.0);
            f / 4.0 * stretched + f * (1.0 - stretched)
        };
        let expected: Vec<_> = plain(500.0).iter().zip(0..).map(ramp).collect();
        let found = rope(scaling, 64);
        assert_close(&found.inv_freq, &expected);
        let ln4 = 4f64.ln();
        let factor = (0.1 * ln4 + 1.0) / (0.05 * ln4 + 1.0);
        assert!((f64::from(found.attention_factor) - factor).abs() < 1e-6);
    }
}

#[test]
fn refused_by_name() {
    for (changes, name) in [
        (
            json!({"architectures": ["FooForCausalLM"]}),
            "FooForCausalLM; there are LlamaForCausalLM",
        ),
        (json!({"hidden_act": "relu"}), "relu"),
        (json!({"rope_scaling": {"type": "longrope"}}), "longrope"),
        (
            json!({"rope_scaling": {"type": "default", "mrope_section": [1]}}),
            "mrope_section",
        ),
        (
            json!({"quantization_config": {"bits": 4}}),
            "quantization_config",
        ),
        (json!({"num_experts": 8}), "num_experts"),
        (
            json!({"final_logit_softcapping": 30.0}),
            "final_logit_softcapping",
        ),
        (
            json!({"layer_types": ["full_attention", "chunked"]}),
            "chunked",
        ),
        (json!({"num_hidden_layers": -1}), "num_hidden_layers"),
        (json!({"num_hidden_layers": 1e9}), "num_hidden_layers"),
        (json!({"hidden_size": "64"}), "hidden_size"),
        (json!({"vocab_size": 4294967295u32}), "vocab_size"),
        (json!({"num_attention_heads": 0}), "num_attention_heads"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
        (json!({"intermediate_size": null}), "intermediate_size"),
        (json!({"rope_theta": 0.0}), "rope_theta"),
        (json!({"rope_scaling": {"type": "linear"}}), "factor"),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 0}}),
            "factor",
        ),
        (json!({"rope_scaling": 3}), "rope_scaling"),
        (json!({"eos_token_id": "x"}), "eos_token_id"),
        (
            json!({"partial_rotary_factor": 2.0}),
            "partial_rotary_factor",
        ),
    ] {
        let error = parse(&with(base("LlamaForCausalLM"), changes))
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
}

fn hostile() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({"type": "yarn", "factor": 1e300})),
    ]
}

proptest! {
    #[test]
    fn plausible_configs_validate(
        family in 0..4usize, kv in 1..5u32, group in 1..4u32, half in 1..40u32, hidden in 1..9u32,
        layers in 1..6u32, window in proptest::option::of(1..50u32), tied: bool, activation in 0..3usize,
    ) {
        let names = ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"];
        let config = with(base(names[family]), json!({
            "num_key_value_heads": kv, "num_attention_heads": kv * group, "head_dim": 2 * half,
            "hidden_size": 16 * hidden, "num_hidden_layers": layers, "sliding_window": window,
            "use_sliding_window": true, "max_window_layers": 1, "tie_word_embeddings": tied,
        }));
        let activations = [ActivationDtype::F32, ActivationDtype::BF16, ActivationDtype::Q8];
        let mut options = PlanOptions::new(128, Precision::new(activations[activation]));
        options.taps = vec![layers - 1];
        let plan = build_plan(&parse(&config).unwrap(), &options).unwrap();
        prop_assert!(plan.validate().is_ok());
        let tap = format!("tap.{}", layers - 1);
        prop_assert!(plan.buffer_named("logits").is_some() && plan.buffer_named(&tap).is_some());
    }

    #[test]
    fn hostile_configs_never_panic(changes in proptest::collection::vec((0..13usize, hostile()), 1..4)) {
        let keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
            "num_key_value_heads", "vocab_size", "max_position_embeddings", "rope_theta", "rope_scaling",
            "sliding_window", "eos_token_id", "rms_norm_eps"];
        let mut config = base("MistralForCausalLM");
        for (key, value) in changes {
            config[keys[key]] = value;
        }
        if let Ok(config) = parse(&config) {
            let options = PlanOptions::new(128, Precision::new(ActivationDtype::F32));
            build_plan(&config, &options).unwrap();
        }
    }
}
