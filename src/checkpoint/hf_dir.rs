use super::bytes::FileBytes;
use super::safetensors;
use super::tensor::Tensor;
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path};

/// Longest configuration or index that is read; real ones stay below a few megabytes.
const MAX_JSON: u64 = 64 << 20;

/// What a Hugging Face directory holds.
pub(super) struct HfDir {
    pub config: Value,
    pub generation_config: Option<Value>,
    pub tensors: BTreeMap<String, Tensor>,
}

impl HfDir {
    pub fn open(dir: &Path) -> Result<Self> {
        let config = checked_config(&dir.join("config.json"), None)?;
        let generation = dir.join("generation_config.json");
        let generation_config = match generation.exists() {
            true => Some(read_json(&generation)?),
            false => None,
        };
        let mut tensors = BTreeMap::new();
        for file in weight_files(dir)? {
            let path = dir.join(file);
            for (name, tensor) in safetensors::read(&FileBytes::map(&path)?)? {
                if tensors.contains_key(&name) {
                    let reason = format!("tensor `{name}` is in another file too");
                    return Err(Error::malformed(path, reason));
                }
                tensors.insert(name, tensor);
            }
        }
        Ok(HfDir {
            config,
            generation_config,
            tensors: with_prefix(tensors),
        })
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

/// Files of the directory that hold the weights.
fn weight_files(dir: &Path) -> Result<BTreeSet<String>> {
    let single = "model.safetensors";
    let index = dir.join("model.safetensors.index.json");
    if dir.join(single).exists() || !index.exists() {
        if !dir.join(single).exists() && dir.join("pytorch_model.bin").exists() {
            let reason = "weights in pytorch_model.bin; convert them to safetensors";
            return Err(Error::Unsupported(reason.to_owned()));
        }
        return Ok(BTreeSet::from([single.to_owned()]));
    }
    let json = read_json(&index)?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::malformed(&index, "`weight_map` is missing"))?;
    let mut files = BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().filter(|file| is_plain_name(file));
        let file = file.ok_or_else(|| {
            let reason = format!("tensor `{tensor}` is not in a file of this directory");
            Error::malformed(&index, reason)
        })?;
        files.insert(file.to_owned());
    }
    match files.is_empty() {
        true => Err(Error::malformed(&index, "`weight_map` is empty")),
        false => Ok(files),
    }
}

/// Whether this names a file of the directory and nothing elsewhere.
fn is_plain_name(file: &str) -> bool {
    let mut components = Path::new(file).components();
    let first = components.next();
    matches!(first, Some(Component::Normal(name)) if name == file) && components.next().is_none()
}

fn read_json(path: &Path) -> Result<Value> {
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
