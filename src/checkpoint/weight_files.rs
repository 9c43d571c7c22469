use super::hf_dir::read_json;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Component, Path};

/// What a directory's weights are for, which says under what names their files are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A model by itself.
    Target,
    /// A draft of speculative decoding: the formats of Medusa and EAGLE too.
    Draft,
}

impl Role {
    /// Files, first choice first. An index names the others that belong together.
    fn candidates(self) -> &'static [&'static str] {
        match self {
            Role::Target => &[
                "model.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
            ],
            Role::Draft => &[
                "model.safetensors.index.json",
                "model.safetensors",
                "medusa_lm_head.safetensors",
                "medusa_lm_head.pt",
                "pytorch_model.bin.index.json",
                "pytorch_model.bin",
            ],
        }
    }

    /// Names of the files in a directory that hold the weights.
    pub fn weight_files(self, dir: &Path) -> Result<BTreeSet<String>> {
        let found = self
            .candidates()
            .iter()
            .find(|name| dir.join(name).exists());
        match found {
            Some(name) if name.ends_with(".json") => indexed(&dir.join(name)),
            Some(name) => Ok(BTreeSet::from([(*name).to_owned()])),
            None if self == Role::Draft => self.only_safetensors(dir),
            None => Err(self.none_in(dir, "")),
        }
    }

    /// The one safetensors file of a directory, whatever its name.
    fn only_safetensors(self, dir: &Path) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
            let name = entry.map_err(|e| Error::io(dir, e))?.file_name();
            found.extend(
                name.into_string()
                    .ok()
                    .filter(|name| name.ends_with(".safetensors")),
            );
        }
        match found.len() {
            1 => Ok(found),
            0 => Err(self.none_in(dir, ", any *.safetensors")),
            count => {
                let reason = format!(", one *.safetensors (there are {count})");
                Err(self.none_in(dir, &reason))
            }
        }
    }

    fn none_in(self, dir: &Path, more: &str) -> Error {
        let names = self.candidates().join(", ");
        Error::malformed(dir, format!("no weights; looked for {names}{more}"))
    }
}

/// Files that an index names.
fn indexed(index: &Path) -> Result<BTreeSet<String>> {
    let json = read_json(index)?;
    let map = json
        .get("weight_map")
        .and_then(serde_json::Value::as_object);
    let map = map.ok_or_else(|| Error::malformed(index, "`weight_map` is missing"))?;
    let mut files = BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().filter(|file| is_plain_name(file));
        let file = file.ok_or_else(|| {
            let reason = format!("tensor `{tensor}` is not in a file of this directory");
            Error::malformed(index, reason)
        })?;
        files.insert(file.to_owned());
    }
    match files.is_empty() {
        true => Err(Error::malformed(index, "`weight_map` is empty")),
        false => Ok(files),
    }
}

/// Whether this names a file of the directory and nothing elsewhere.
fn is_plain_name(file: &str) -> bool {
    let mut components = Path::new(file).components();
    let first = components.next();
    matches!(first, Some(Component::Normal(name)) if name == file) && components.next().is_none()
}
