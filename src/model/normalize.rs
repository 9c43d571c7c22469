use super::family::Family;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Options that change what a model computes and that no family here has. Refused by name: a model that runs with
/// one of them ignored speaks nonsense, or worse, almost sense.
const REFUSED: &[&str] = &[
    "quantization_config",
    "compression_config",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "use_mrope",
    "alibi",
];

/// Multipliers of the same kind, harmless where they are 1.
const REFUSED_MULTIPLIERS: &[&str] = &[
    "embedding_multiplier",
    "residual_multiplier",
    "attention_multiplier",
    "logits_scaling",
    "logit_scale",
];

/// The same inside the rotation's parameters.
const REFUSED_ROPE: &[&str] = &[
    "mrope_section",
    "mrope_interleaved",
    "llama_4_scaling_beta",
    "short_factor",
    "long_factor",
];

/// Names of `rope_type` that are understood.
const ROPE_TYPES: &[&str] = &["default", "linear", "dynamic", "llama3", "yarn", "factors"];

/// Fills in what a config leaves out and brings the spellings of several years to one.
pub(super) fn normalize(map: &Map<String, Value>, path: &Path) -> Result<Map<String, Value>> {
    refuse(map)?;
    let mut map = map.clone();
    let family = find_family(&map, path)?;
    for (key, value) in family.defaults {
        map.entry(*key).or_insert_with(|| json!(value));
    }
    // A key without a value is as good as none, apart from the family's defaults: Mistral says `null` for no window.
    map.retain(|_, value| !value.is_null());
    if let Some(heads) = map.get("num_attention_heads").cloned() {
        map.entry("num_key_value_heads").or_insert(heads);
    }
    if !map.contains_key("head_dim")
        && let Some(head_dim) = derive_head_dim(&map, path)?
    {
        map.insert("head_dim".to_owned(), json!(head_dim));
    }
    normalize_rope(&mut map, path)?;
    Ok(map)
}

fn refuse(map: &Map<String, Value>) -> Result<()> {
    let refused = |key: &str| Err(Error::Unsupported(format!("{key} in config.json")));
    for key in REFUSED {
        if map.get(*key).is_some_and(|value| !is_off(value)) {
            return refused(key);
        }
    }
    for key in REFUSED_MULTIPLIERS {
        let value = map.get(*key);
        if value.is_some_and(|value| !value.is_null() && value.as_f64() != Some(1.0)) {
            return refused(key);
        }
    }
    Ok(())
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(_) | Value::Bool(true) => false,
    }
}

fn find_family(map: &Map<String, Value>, path: &Path) -> Result<&'static Family> {
    let names = match map.get("architectures") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => Vec::<String>::deserialize(list)
            .map_err(|error| Error::malformed(path, format!("`architectures`: {error}")))?,
    };
    Family::find(&names, map.get("model_type").and_then(Value::as_str))
}

/// `None` where sizes are missing or no sizes, which deserialization will say.
fn derive_head_dim(map: &Map<String, Value>, path: &Path) -> Result<Option<u64>> {
    let number = |key| map.get(key).and_then(Value::as_u64);
    let (Some(hidden), Some(heads)) = (number("hidden_size"), number("num_attention_heads")) else {
        return Ok(None);
    };
    match hidden.checked_rem(heads) {
        Some(0) => Ok(Some(hidden / heads)),
        _ => Err(Error::malformed(
            path,
            format!("`hidden_size` {hidden} does not divide into `num_attention_heads` {heads}"),
        )),
    }
}

/// Moves base, partial factor and scaling from wherever they are to `rope_theta`, `partial_rotary_factor` and
/// `rope_scaling`.
fn normalize_rope(map: &mut Map<String, Value>, path: &Path) -> Result<()> {
    let mut rope = Map::new();
    // As in transformers the older key goes first where both have content.
    for key in ["rope_scaling", "rope_parameters"] {
        match map.remove(key) {
            Some(Value::Object(found)) if rope.is_empty() => rope = found,
            Some(Value::Object(_)) | None => {}
            Some(_) => return Err(Error::malformed(path, format!("`{key}` is no object"))),
        }
    }
    rope.retain(|_, value| !value.is_null());
    if let Some((key, _)) = rope.iter().find(|(_, value)| value.is_object()) {
        return Err(Error::Unsupported(format!(
            "rope_parameters for layers of type {key:.100} alone"
        )));
    }
    for key in REFUSED_ROPE {
        if rope.get(*key).is_some_and(|value| !is_off(value)) {
            return Err(Error::Unsupported(format!("{key} in rope_scaling")));
        }
    }
    for (key, default) in [("rope_theta", 10000.0), ("partial_rotary_factor", 1.0)] {
        let value = rope.remove(key).or_else(|| map.remove(key));
        map.insert(key.to_owned(), value.unwrap_or_else(|| json!(default)));
    }
    // `type` is the older name of `rope_type`.
    let legacy = rope.remove("type");
    let rope_type = rope.remove("rope_type").or(legacy);
    let rope_type = rope_type.unwrap_or_else(|| json!("default"));
    if !ROPE_TYPES.iter().any(|known| rope_type == *known) {
        let known = ROPE_TYPES.join(", ");
        let found = rope_type.to_string();
        return Err(Error::Unsupported(format!(
            "rope_type {found:.100}; there are {known}"
        )));
    }
    rope.insert("rope_type".to_owned(), rope_type);
    const ORIGINAL: &str = "original_max_position_embeddings";
    if let Some(outer) = map.get(ORIGINAL) {
        rope.insert(ORIGINAL.to_owned(), outer.clone());
    } else if let Some(all) = map.get("max_position_embeddings") {
        rope.entry(ORIGINAL).or_insert_with(|| all.clone());
    }
    map.insert("rope_scaling".to_owned(), Value::Object(rope));
    Ok(())
}

/// Adds to a message of serde, which names no key where a value has the wrong type, the key at fault: the one without
/// which the message is another.
pub(super) fn blame<T: for<'de> Deserialize<'de>>(
    map: &Map<String, Value>,
    message: &str,
) -> String {
    // Each try copies the map; a file of that many keys is no configuration.
    const MOST_KEYS: usize = 1000;
    let at_fault = |key: &&String| {
        let mut without = map.clone();
        without.remove(*key);
        T::deserialize(&without)
            .err()
            .is_none_or(|error| error.to_string() != message)
    };
    let mut keys = map.keys().take(MOST_KEYS);
    match keys.find(at_fault).filter(|_| map.len() <= MOST_KEYS) {
        Some(key) => format!("`{key}`: {message}"),
        None => message.to_owned(),
    }
}
