use crate::error::{Error, Result};
use hf_hub::{Cache, CacheRepo};
use std::path::{Path, PathBuf};

/// Whether this could be the id of a model on the hub: `organisation/name`.
fn is_id(spec: &str) -> bool {
    let part = |s: &str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !s.is_empty() && !s.starts_with('.') && !s.contains("..") && s.chars().all(letters)
    };
    matches!(spec.split_once('/'), Some((owner, name)) if part(owner) && part(name))
}

/// Where a model is: the path itself, or the snapshot of a hub id.
pub(super) fn locate(spec: &str) -> Result<PathBuf> {
    let path = Path::new(spec);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if !is_id(spec) {
        return Err(Error::io(path, std::io::ErrorKind::NotFound.into()));
    }
    if let Some(cache) = cache() {
        let repo = cache.model(spec.to_owned());
        if let Some(snapshot) = snapshot(&repo) {
            return Ok(snapshot);
        }
    }
    download(spec)
}

/// The cache that Python's hub client uses.
fn cache() -> Option<Cache> {
    if let Some(path) = std::env::var_os("HF_HUB_CACHE") {
        return Some(Cache::new(path.into()));
    }
    // Without either, the crate would panic for want of a home directory.
    let home = std::env::var_os("HF_HOME").is_some() || std::env::home_dir().is_some();
    home.then(Cache::from_env)
}

fn snapshot(repo: &CacheRepo) -> Option<PathBuf> {
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    let complete = weights.iter().any(|file| repo.get(file).is_some());
    let config = repo.get("config.json").filter(|_| complete)?;
    config.parent().map(Path::to_owned)
}

#[cfg(not(feature = "hub"))]
fn download(id: &str) -> Result<PathBuf> {
    Err(Error::Invalid(format!(
        "`{id}` is neither a file, a directory nor a model in the hub's local cache; \
         `hf download {id}` fetches it"
    )))
}

#[cfg(feature = "hub")]
fn download(id: &str) -> Result<PathBuf> {
    use hf_hub::api::sync::{ApiBuilder, ApiError};
    let wanted = |file: &str| {
        let text = file.ends_with(".json") || file.ends_with(".jinja") || file.ends_with(".model");
        !file.contains('/') && (text || file.ends_with(".safetensors"))
    };
    let fetch = || -> Result<(), ApiError> {
        let mut builder = ApiBuilder::from_env();
        if let Some(cache) = cache() {
            builder = builder.with_cache_dir(cache.path().clone());
        }
        let repo = builder.build()?.model(id.to_owned());
        for file in repo.info()?.siblings {
            if wanted(&file.rfilename) {
                repo.get(&file.rfilename)?;
            }
        }
        Ok(())
    };
    if cache().is_none() {
        return Err(Error::Invalid(
            "no home directory and no HF_HOME".to_owned(),
        ));
    }
    fetch().map_err(|e| Error::Invalid(format!("`{id}` cannot be downloaded: {e}")))?;
    cache()
        .and_then(|cache| snapshot(&cache.model(id.to_owned())))
        .ok_or_else(|| Error::Invalid(format!("`{id}` has no config.json or no safetensors")))
}

#[cfg(test)]
mod tests {
    use super::is_id;

    #[test]
    fn hub_ids_are_told_from_paths() {
        assert!(is_id("HuggingFaceTB/SmolLM2-135M-Instruct"));
        for path in ["model", "/abs", "a/b/c", "../up", "a/..", "./a", "a/"] {
            assert!(!is_id(path), "{path}");
        }
    }
}
