//! Configurations of well-known models, for programs that need a model's sizes and no weights of it.

use super::ModelConfig;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// A model whose configuration is known by name.
#[derive(Debug, Clone, Copy)]
pub struct NamedModel {
    /// How it is called here.
    pub name: &'static str,
    /// What it is, for people.
    pub description: &'static str,
    config: fn() -> Value,
}

impl NamedModel {
    /// All of them.
    pub const ALL: &[NamedModel] = &[
        NamedModel {
            name: "tiny",
            description: "2 layers of 256, made up, for tests",
            config: || {
                llama(
                    &[256, 512, 2, 4, 2, 64, 512, 512],
                    true,
                    json!({"rope_theta": 1e4}),
                )
            },
        },
        NamedModel {
            name: "smollm2-135m",
            description: "SmolLM2-135M: 30 layers of 576, tied head",
            config: || {
                llama(
                    &[576, 1536, 30, 9, 3, 64, 49152, 8192],
                    true,
                    json!({"rope_theta": 1e5}),
                )
            },
        },
        NamedModel {
            name: "llama-3.2-1b",
            description: "Llama-3.2-1B: 16 layers of 2048, tied head",
            config: || {
                llama(
                    &[2048, 8192, 16, 32, 8, 64, 128_256, 131_072],
                    true,
                    llama3(32.0),
                )
            },
        },
        NamedModel {
            name: "llama-3.1-8b",
            description: "Llama-3.1-8B: 32 layers of 4096",
            config: || {
                llama(
                    &[4096, 14336, 32, 32, 8, 128, 128_256, 131_072],
                    false,
                    llama3(8.0),
                )
            },
        },
        NamedModel {
            name: "qwen3-8b",
            description: "Qwen3-8B: 36 layers of 4096, norms over heads",
            config: || {
                let mut config = llama(
                    &[4096, 12288, 36, 32, 8, 128, 151_936, 40960],
                    false,
                    json!({"rope_theta": 1e6}),
                );
                config["architectures"] = json!(["Qwen3ForCausalLM"]);
                config["rms_norm_eps"] = json!(1e-6);
                config
            },
        },
        NamedModel {
            name: "llama-3.1-70b-slice",
            description: "4 of the 80 layers of 8192 of Llama-3.1-70B, and its head",
            config: || {
                llama(
                    &[8192, 28672, 4, 64, 8, 128, 128_256, 131_072],
                    false,
                    llama3(8.0),
                )
            },
        },
    ];

    /// The model of that name.
    ///
    /// # Errors
    /// There is none; the error lists those there are.
    pub fn find(name: &str) -> Result<NamedModel> {
        let found = Self::ALL.iter().find(|model| model.name == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|model| model.name).collect();
            let names = names.join(", ");
            Error::Invalid(format!(
                "`{name:.100}` is no model known by name; there are {names}"
            ))
        })
    }

    /// Its configuration, with as many layers as it has or with `layers`.
    ///
    /// # Errors
    /// No layers, or more than a model may have.
    pub fn config(&self, layers: Option<u32>) -> Result<ModelConfig> {
        let mut json = (self.config)();
        if let Some(layers) = layers {
            json["num_hidden_layers"] = json!(layers);
        }
        ModelConfig::from_json(&json, Path::new(self.name)).map_err(|error| match error {
            Error::Malformed { reason, .. } => Error::Invalid(format!("{}: {reason}", self.name)),
            other => other,
        })
    }
}

/// Sizes: hidden_size, intermediate_size, layers, heads, KV heads, head_dim, vocab_size, positions.
fn llama(sizes: &[u32; 8], tied: bool, rope: Value) -> Value {
    let [
        hidden,
        intermediate,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab,
        positions,
    ] = sizes;
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocab,
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": tied,
    });
    if let (Value::Object(config), Value::Object(rope)) = (&mut config, rope) {
        config.extend(rope);
    }
    config
}

fn llama3(factor: f64) -> Value {
    json!({
        "rope_theta": 5e5,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ActivationDtype, PlanOptions, Precision, build_plan};
    use stheno_codegen::plan::WeightShape;

    /// Published numbers of parameters.
    #[test]
    fn parameters_are_as_many_as_published() {
        for (name, expected) in [
            ("smollm2-135m", 134_515_008_u64),
            ("llama-3.2-1b", 1_235_814_400),
            ("llama-3.1-8b", 8_030_261_248),
            ("qwen3-8b", 8_190_735_360),
        ] {
            let config = NamedModel::find(name).unwrap().config(None).unwrap();
            let options = PlanOptions::new(512, Precision::new(ActivationDtype::Mixed));
            let plan = build_plan(&config, &options).unwrap();
            let size = |shape| match shape {
                WeightShape::Matrix { n, k } => u64::from(n) * u64::from(k),
                WeightShape::Vector { n } => n.into(),
            };
            let sum: u64 = plan.weights.iter().map(|weight| size(weight.shape)).sum();
            assert_eq!(sum, expected, "{name}");
        }
    }

    #[test]
    fn layers_can_be_cut_and_names_are_listed() {
        let slice = NamedModel::find("llama-3.1-70b-slice").unwrap();
        assert_eq!(slice.config(None).unwrap().num_hidden_layers, 4);
        assert_eq!(slice.config(Some(1)).unwrap().num_hidden_layers, 1);
        let none = slice.config(Some(0)).unwrap_err().to_string();
        assert!(none.contains("num_hidden_layers"), "{none}");
        let unknown = NamedModel::find("llama-4").unwrap_err().to_string();
        assert!(
            unknown.contains("`llama-4`") && unknown.contains("qwen3-8b"),
            "{unknown}"
        );
    }
}
