//! Tokenizers out of a Hugging Face directory.

use super::decoder::Decoder;
use super::tokenizer::{Backend, Ends, Tokenizer};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// A JSON file of a checkpoint; `None` if there is no such file.
pub(super) fn read_json(directory: &Path, name: &str) -> Result<Option<Value>> {
    let Some(text) = read_text(directory, name)? else {
        return Ok(None);
    };
    let path = directory.join(name);
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Error::malformed(path, format!("not JSON: {error}")))
}

/// A text file of a checkpoint; `None` if there is no such file.
pub(super) fn read_text(directory: &Path, name: &str) -> Result<Option<String>> {
    let path = directory.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(Error::malformed(path, "not UTF-8 text"))
        }
        Err(error) => Err(Error::io(path, error)),
    }
}

/// The spelling of a special token of a configuration: a string, or an object with `content`.
pub(super) fn token_text(config: &Value, key: &str) -> Option<String> {
    let value = config.get(key)?;
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    Some(text.to_owned())
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a Hugging Face directory; `None` if it has no tokenizer at all.
    ///
    /// # Errors
    /// If a file is malformed, or the only tokenizer is a `tokenizer.model`.
    pub fn from_directory(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("tokenizer.json");
        let Some(json) = read_text(directory, "tokenizer.json")? else {
            if directory.join("tokenizer.model").exists() {
                return Err(Error::Unsupported(format!(
                    "{} has only a tokenizer.model; save it as tokenizer.json with \
                     transformers' AutoTokenizer.from_pretrained(..).save_pretrained(..)",
                    directory.display()
                )));
            }
            return Ok(None);
        };
        let malformed = |reason: String| Error::malformed(&path, reason);
        let mut library: tokenizers::Tokenizer = json
            .parse()
            .map_err(|error| malformed(format!("not a tokenizer: {error}")))?;
        // A length to cut or fill to is for training batches.
        library.with_padding(None);
        library
            .with_truncation(None)
            .map_err(|error| malformed(error.to_string()))?;

        let description: Value =
            serde_json::from_str(&json).map_err(|error| malformed(format!("not JSON: {error}")))?;
        let decoder = Decoder::parse(description.get("decoder").unwrap_or(&Value::Null))
            .map_err(|error| malformed(error.to_string()))?;
        let mut table = Vocabulary::new(decoder.leading_spaces);
        for (token, id) in library.get_vocab(false) {
            table
                .set(id, &decoder.bytes_of(&token, false), false)
                .map_err(|error| malformed(error.to_string()))?;
        }
        for (id, token) in library.get_added_tokens_decoder() {
            table
                .set(id, &decoder.bytes_of(&token.content, true), token.special)
                .map_err(|error| malformed(error.to_string()))?;
        }
        let ends = ends(directory, &library)?;
        Ok(Some(Tokenizer::new(
            Backend::Library(Box::new(library)),
            table,
            ends,
        )))
    }
}

fn ends(directory: &Path, library: &tokenizers::Tokenizer) -> Result<Ends> {
    let tokenizer_config = read_json(directory, "tokenizer_config.json")?.unwrap_or_default();
    let special_map = read_json(directory, "special_tokens_map.json")?.unwrap_or_default();
    let config = read_json(directory, "config.json")?.unwrap_or_default();
    let generation_config = read_json(directory, "generation_config.json")?.unwrap_or_default();
    let named = |key: &str| {
        let text = token_text(&tokenizer_config, key).or_else(|| token_text(&special_map, key))?;
        library.token_to_id(&text)
    };
    let bos = named("bos_token").or_else(|| ids(&config, "bos_token_id").first().copied());
    let eos = named("eos_token").or_else(|| ids(&config, "eos_token_id").first().copied());
    let mut stop_ids = ids(&generation_config, "eos_token_id");
    if stop_ids.is_empty() {
        stop_ids = ids(&config, "eos_token_id");
    }
    stop_ids.extend(eos);
    Ok(Ends {
        bos,
        eos,
        stop_ids,
        ..Ends::default()
    })
}

/// An id or a list of ids.
fn ids(config: &Value, key: &str) -> Vec<u32> {
    let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
    match config.get(key) {
        Some(Value::Array(values)) => values.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}
