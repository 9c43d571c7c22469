use super::bytes::FileBytes;
use super::tensor::Tensor;
use super::weight_files::Role;
use super::{safetensors, torch};
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Longest configuration or index that is read; real ones stay below a few megabytes.
const MAX_JSON: u64 = 64 << 20;

/// What a Hugging Face directory holds.
pub(super) struct HfDir {
    pub config: Value,
    pub generation_config: Option<Value>,
    pub tensors: BTreeMap<String, Tensor>,
}

impl HfDir {
    /// Opens a directory. Tensors of a draft keep the names that they have in its files, and there is nothing to be
    /// learnt from how it generates.
    pub fn open(dir: &Path, role: Role) -> Result<Self> {
        let config = checked_config(&dir.join("config.json"), None)?;
        let generation = dir.join("generation_config.json");
        let generation_config = match role == Role::Target && generation.exists() {
            true => Some(read_json(&generation)?),
            false => None,
        };
        let mut tensors = BTreeMap::new();
        for file in role.weight_files(dir)? {
            let path = dir.join(file);
            for (name, tensor) in read_weights(&path)? {
                if tensors.contains_key(&name) {
                    let reason = format!("tensor `{name}` is in another file too");
                    return Err(Error::malformed(path, reason));
                }
                tensors.insert(name, tensor);
            }
        }
        let tensors = match role {
            Role::Target => with_prefix(tensors),
            Role::Draft => tensors,
        };
        Ok(HfDir {
            config,
            generation_config,
            tensors,
        })
    }
}

/// The tensors of a file, whose name says which of the two formats it has.
fn read_weights(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = FileBytes::map(path)?;
    match path
        .extension()
        .is_some_and(|extension| extension == "safetensors")
    {
        true => safetensors::read(&file),
        false => torch::read(&file),
    }
}

/// The configuration in `text`, or in the file itself; quantized formats that it declares are refused.
pub(super) fn checked_config(path: &Path, text: Option<&[u8]>) -> Result<Value> {
    let config = match text {
        Some(text) => parse_json(path, text)?,
        None => read_json(path)?,
    };
    if !config.is_object() {
        return Err(Error::malformed(path, "not a JSON object"));
    }
    match config.get("quantization_config") {
        None | Some(Value::Null) => Ok(config),
        Some(quantization) => {
            let method = quantization.get("quant_method").and_then(Value::as_str);
            let method = method.unwrap_or("unknown method");
            let reason = format!("quantized Hugging Face checkpoints ({method})");
            Err(Error::Unsupported(reason))
        }
    }
}

/// Names of base models lack the prefix that those of language models have.
pub(super) fn with_prefix(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    const PARTS: [&str; 3] = ["layers.", "embed_tokens.", "norm."];
    let bare = |name: &str| PARTS.iter().any(|part| name.starts_with(part));
    if tensors.keys().any(|name| name.starts_with("model.")) {
        return tensors;
    }
    let rename = |name: String| match bare(&name) {
        true => format!("model.{name}"),
        false => name,
    };
    tensors.into_iter().map(|(n, t)| (rename(n), t)).collect()
}

/// A JSON file of a bounded length.
pub(super) fn read_json(path: &Path) -> Result<Value> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_JSON + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(Error::malformed(path, "too long for a configuration"));
    }
    parse_json(path, &bytes)
}

fn parse_json(path: &Path, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::malformed(path, format!("not valid JSON: {e}")))
}
