use super::weight_files::Role;
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
pub(super) fn locate(spec: &str, role: Role) -> Result<PathBuf> {
    let path = Path::new(spec);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if !is_id(spec) {
        let reason = "not there, and no id of a model on the hub (organisation/name)";
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, reason);
        return Err(Error::io(path, cause));
    }
    if let Some(cache) = cache() {
        let repo = cache.model(spec.to_owned());
        if let Some(snapshot) = snapshot(&repo, role) {
            return Ok(snapshot);
        }
    }
    download(spec, role)
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

/// A snapshot that has a configuration and weights.
fn snapshot(repo: &CacheRepo, role: Role) -> Option<PathBuf> {
    let config = repo.get("config.json")?;
    let snapshot = config.parent()?;
    role.weight_files(snapshot).ok()?;
    Some(snapshot.to_owned())
}

#[cfg(not(feature = "hub"))]
fn download(id: &str, _: Role) -> Result<PathBuf> {
    Err(Error::Invalid(format!(
        "`{id}` is neither a file, a directory nor a model in the hub's local cache; \
         `hf download {id}` fetches it"
    )))
}

#[cfg(feature = "hub")]
fn download(id: &str, role: Role) -> Result<PathBuf> {
    use hf_hub::api::sync::{ApiBuilder, ApiError};
    let wanted = |file: &str, converted: bool| {
        let text = file.ends_with(".json") || file.ends_with(".jinja") || file.ends_with(".model");
        let torch = file.starts_with("pytorch_model") && file.ends_with(".bin")
            || file == "medusa_lm_head.pt";
        let weights = file.ends_with(".safetensors") || !converted && torch;
        !file.contains('/') && (text || weights)
    };
    let fetch = || -> Result<(), ApiError> {
        let mut builder = ApiBuilder::from_env();
        if let Some(cache) = cache() {
            builder = builder.with_cache_dir(cache.path().clone());
        }
        let repo = builder.build()?.model(id.to_owned());
        let files = repo.info()?.siblings;
        let names = || files.iter().map(|file| file.rfilename.as_str());
        let converted = names().any(|name| !name.contains('/') && name.ends_with(".safetensors"));
        for name in names().filter(|name| wanted(name, converted)) {
            repo.get(name)?;
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
        .and_then(|cache| snapshot(&cache.model(id.to_owned()), role))
        .ok_or_else(|| Error::Invalid(format!("`{id}` has no config.json or no weights")))
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
