use super::{GgufFile, GgufMetadata};
use crate::checkpoint::tensor::Tensor;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Architectures whose tensors these rules fit: name in GGUF, `model_type`, class.
const ARCHITECTURES: [(&str, &str, &str); 3] = [
    ("llama", "llama", "LlamaForCausalLM"),
    ("qwen2", "qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "qwen3", "Qwen3ForCausalLM"),
];

/// Dimensions of real models stay far below; arithmetic on them never overflows.
const MAX_DIMENSION: u64 = 1 << 31;

impl GgufFile {
    /// What `config.json` would say; takes note of the tensors whose rows are permuted.
    pub fn config(&mut self, path: &Path) -> Result<Value> {
        let metadata = &self.metadata;
        let architecture = metadata
            .str("general.architecture")
            .ok_or_else(|| Error::malformed(path, "`general.architecture` is missing"))?;
        let Some((_, model_type, class)) = ARCHITECTURES
            .iter()
            .find(|(name, ..)| *name == architecture)
        else {
            let reason = format!("GGUF files of architecture `{architecture}`");
            return Err(Error::Unsupported(reason));
        };
        let keys = Keys {
            path,
            metadata,
            architecture,
        };
        if keys.optional("expert_count")?.unwrap_or(0) > 0 {
            return Err(Error::Unsupported("mixtures of experts".to_owned()));
        }
        let heads = keys.required("attention.head_count")?;
        let kv_heads = keys.optional("attention.head_count_kv")?.unwrap_or(heads);
        let hidden_size = keys.required("embedding_length")?;
        if heads == 0 || kv_heads == 0 {
            return Err(Error::malformed(path, "the model has no attention heads"));
        }
        let head_dim = keys
            .optional("attention.key_length")?
            .unwrap_or(hidden_size / heads);
        let rotated = keys.optional("rope.dimension_count")?.unwrap_or(head_dim);
        let value_dim = keys.optional("attention.value_length")?.unwrap_or(head_dim);
        if rotated != head_dim || value_dim != head_dim {
            let reason = format!("heads of {head_dim} with {rotated} rotated, {value_dim} valued");
            return Err(Error::Unsupported(reason));
        }
        let mut config = Map::new();
        let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
        set("architectures", json!([class]));
        set("model_type", json!(model_type));
        set("hidden_act", json!("silu"));
        set("hidden_size", json!(hidden_size));
        set(
            "intermediate_size",
            json!(keys.required("feed_forward_length")?),
        );
        set("num_hidden_layers", json!(keys.required("block_count")?));
        set("num_attention_heads", json!(heads));
        set("num_key_value_heads", json!(kv_heads));
        set("head_dim", json!(head_dim));
        set("vocab_size", json!(vocab_size(&self.tensors, &keys)?));
        let eps = keys
            .number("attention.layer_norm_rms_epsilon")
            .unwrap_or(1e-5);
        set("rms_norm_eps", json!(short(eps)));
        let theta = keys.number("rope.freq_base").unwrap_or(10_000.0);
        set("rope_theta", json!(short(theta)));
        set(
            "rope_scaling",
            rope_scaling(&keys, &self.tensors, head_dim)?,
        );
        set(
            "max_position_embeddings",
            json!(keys.required("context_length")?),
        );
        if let Some(window) = keys
            .optional("attention.sliding_window")?
            .filter(|w| *w > 0)
        {
            set("sliding_window", json!(window));
        }
        set(
            "tie_word_embeddings",
            json!(!self.tensors.contains_key("lm_head.weight")),
        );
        let has = |name: &str| {
            self.tensors
                .contains_key(&format!("model.layers.0.{name}.bias"))
        };
        set("attention_bias", json!(has("self_attn.q_proj")));
        set("mlp_bias", json!(has("mlp.gate_proj")));
        for (key, name) in [("bos_token_id", "bos"), ("eos_token_id", "eos")] {
            if let Some(id) = metadata.u64(&format!("tokenizer.ggml.{name}_token_id")) {
                set(key, json!(id));
            }
        }
        if architecture == "llama" {
            note_interleaved_heads(&mut self.tensors, "q_proj", heads);
            note_interleaved_heads(&mut self.tensors, "k_proj", kv_heads);
        }
        Ok(Value::Object(config))
    }
}

/// Metadata keys that begin with the architecture.
struct Keys<'a> {
    path: &'a Path,
    metadata: &'a GgufMetadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn optional(&self, key: &str) -> Result<Option<u64>> {
        let key = self.name(key);
        if self.metadata.get(&key).is_none() {
            return Ok(None);
        }
        // An array has a number for each layer, which no supported family does.
        let value = self.metadata.u64(&key).filter(|v| *v <= MAX_DIMENSION);
        value.map(Some).ok_or_else(|| {
            Error::malformed(
                self.path,
                format!("metadata key `{key}` is not one usable integer"),
            )
        })
    }

    fn required(&self, key: &str) -> Result<u64> {
        self.optional(key)?.ok_or_else(|| {
            let key = self.name(key);
            Error::malformed(self.path, format!("metadata key `{key}` is missing"))
        })
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.metadata.f64(&self.name(key))
    }
}

/// The shortest decimal of an f32, as a config would have it: 1e-5 rather than 9.99999974e-6.
fn short(value: f64) -> f64 {
    let narrow = value as f32;
    match f64::from(narrow) == value {
        true => narrow.to_string().parse().unwrap_or(value),
        false => value,
    }
}

fn vocab_size(tensors: &BTreeMap<String, Tensor>, keys: &Keys<'_>) -> Result<u64> {
    // The embedding is what will be indexed; `vocab_size` may be missing or that before padding.
    match tensors.get("model.embed_tokens.weight").map(|t| &*t.shape) {
        Some([rows, _]) => Ok(*rows as u64),
        _ => keys.required("vocab_size"),
    }
}

fn rope_scaling(
    keys: &Keys<'_>,
    tensors: &BTreeMap<String, Tensor>,
    head_dim: u64,
) -> Result<Value> {
    if let Some(tensor) = tensors.get("rope_freqs.weight") {
        let expected = usize::try_from(head_dim / 2).unwrap_or(usize::MAX);
        let factors = tensor
            .vector(expected)
            .map_err(|mismatch| mismatch.of(keys.path, "rope_freqs.weight"))?;
        return Ok(json!({"rope_type": "factors", "factors": factors}));
    }
    let kind = keys.metadata.str(&keys.name("rope.scaling.type"));
    // Before types, a linear factor alone.
    let factor = keys
        .number("rope.scaling.factor")
        .or_else(|| keys.number("rope.scale_linear"));
    let factor = factor.map(short).filter(|factor| *factor != 1.0);
    match (kind, factor) {
        (None | Some("none"), None) | (Some("linear"), None) => Ok(Value::Null),
        (None | Some("linear"), Some(factor)) => {
            Ok(json!({"rope_type": "linear", "factor": factor}))
        }
        (Some("yarn"), Some(factor)) => {
            let mut scaling = json!({"rope_type": "yarn", "factor": factor});
            let original = keys.optional("rope.scaling.original_context_length")?;
            if let Some(original) = original.filter(|length| *length > 0) {
                scaling["original_max_position_embeddings"] = json!(original);
            }
            Ok(scaling)
        }
        (Some("none"), Some(_)) => Ok(Value::Null),
        (Some(kind), _) => Err(Error::Unsupported(format!("RoPE scaling `{kind}` in GGUF"))),
    }
}

/// GGUF files of Llama have the rows of q and k ordered for a rotation of adjacent pairs.
fn note_interleaved_heads(tensors: &mut BTreeMap<String, Tensor>, projection: &str, heads: u64) {
    for (name, tensor) in tensors {
        let stem = name.strip_suffix(".weight").or(name.strip_suffix(".bias"));
        if name.starts_with("model.layers.") && stem.is_some_and(|s| s.ends_with(projection)) {
            tensor.interleaved_heads = usize::try_from(heads).ok();
        }
    }
}
