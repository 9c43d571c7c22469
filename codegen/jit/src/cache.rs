//! Compiled kernels on disk.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::CompileError;
use crate::nvrtc::Nvrtc;
use crate::request::{Compiled, Request};

/// What an entry begins with. The number is that of the format, to be raised when the layout of an entry or the meaning
/// of a request changes.
const MAGIC: &[u8] = b"stheno-kernel-1\n";
/// Bytes of the SHA-256 that follows it, over everything after itself.
const DIGEST: usize = 32;

/// The cache's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the kernel cache {} cannot be opened: {cause}; choose another directory", .path.display())]
pub struct CacheError {
    /// The directory.
    pub path: PathBuf,
    /// What the system says.
    pub cause: io::Error,
}

/// Where a kernel came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An entry of the cache.
    Disk,
    /// NVRTC, because the cache had no entry or a damaged one.
    Compiler,
}

/// A directory of compiled kernels, which any number of threads and processes may share.
///
/// An entry is a file named by the SHA-256 of everything that the output depends on: the request, the version of NVRTC
/// and the format. It appears whole (a rename) and carries a hash of its content; one that does not match is deleted
/// and compiled anew. Nothing is ever evicted: the directory may be deleted at any time.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Opens the cache in `directory`, which is created if it is not there.
    ///
    /// # Errors
    ///
    /// The directory cannot be created.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Cache, CacheError> {
        let directory = directory.into();
        match fs::create_dir_all(&directory) {
            Ok(()) => Ok(Cache { directory }),
            Err(cause) => Err(CacheError {
                path: directory,
                cause,
            }),
        }
    }

    /// `$XDG_CACHE_HOME/stheno/kernels`, or `~/.cache/stheno/kernels`; nothing for a user without a home.
    pub fn default_directory() -> Option<PathBuf> {
        dirs::cache_dir().map(|caches| caches.join("stheno").join("kernels"))
    }

    /// The entry of `request` compiled by `nvrtc`, whether it is there or not.
    pub fn entry(&self, nvrtc: &Nvrtc, request: &Request) -> PathBuf {
        self.directory.join(key(nvrtc.version(), request))
    }

    /// Takes the kernel from the cache, or compiles and stores it. A kernel that cannot be stored is returned all the
    /// same, with a warning in the log of the program.
    ///
    /// # Errors
    ///
    /// Those of [`Nvrtc::compile`]. Rejected sources are not cached.
    pub fn compile(
        &self,
        nvrtc: &Nvrtc,
        request: &Request,
    ) -> Result<(Compiled, Origin), CompileError> {
        let entry = self.entry(nvrtc, request);
        if let Some(compiled) = load(&entry) {
            return Ok((compiled, Origin::Disk));
        }
        let compiled = nvrtc.compile(request)?;
        if let Err(error) = self.store(&entry, &compiled) {
            tracing::warn!(
                "the kernel cache does not take {}: {error}",
                entry.display()
            );
        }
        Ok((compiled, Origin::Compiler))
    }

    fn store(&self, entry: &Path, compiled: &Compiled) -> io::Result<()> {
        let body = postcard::to_stdvec(compiled).map_err(io::Error::other)?;
        let mut file = NamedTempFile::new_in(&self.directory)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&body))?;
        file.write_all(&body)?;
        file.persist(entry)?;
        Ok(())
    }
}

/// The kernel in `entry`. A damaged entry is deleted; one that cannot be read is as good as none.
fn load(entry: &Path) -> Option<Compiled> {
    let bytes = fs::read(entry).ok()?;
    let compiled = decode(&bytes);
    if compiled.is_none() {
        tracing::warn!("deleting {}, which is damaged", entry.display());
        // If this fails, the entry is replaced or found damaged again, neither of which is wrong.
        let _ = fs::remove_file(entry);
    }
    compiled
}

fn decode(bytes: &[u8]) -> Option<Compiled> {
    let (digest, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(DIGEST)?;
    if Sha256::digest(body).as_slice() != digest {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// The name of the entry: SHA-256, in hexadecimal, of everything that decides the output, each text after its length
/// and each list after its count, so that no two requests give the same bytes.
fn key(version: (u32, u32), request: &Request) -> String {
    let options = request.all_options();
    let headers: Vec<&String> = request
        .headers
        .iter()
        .flat_map(|(name, text)| [name, text])
        .collect();
    let lists: [Vec<&String>; 4] = [
        vec![&request.name, &request.source],
        headers,
        options.iter().collect(),
        request.name_expressions.iter().collect(),
    ];
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    hash.update(version.0.to_le_bytes());
    hash.update(version.1.to_le_bytes());
    for list in lists {
        hash.update((list.len() as u64).to_le_bytes());
        for text in list {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Target;

    #[test]
    fn everything_that_decides_the_output_is_in_the_key() {
        let base = Request::new("k.cu", "text", Target::Virtual(80));
        let with = |change: fn(&mut Request)| {
            let mut request = base.clone();
            change(&mut request);
            key((13, 5), &request)
        };
        let mut keys = vec![
            key((13, 5), &base),
            key((13, 4), &base),
            key((12, 5), &base),
            with(|r| r.name = "k".to_owned()),
            with(|r| r.source = "text ".to_owned()),
            with(|r| r.headers = vec![("a".to_owned(), "b".to_owned())]),
            with(|r| r.headers = vec![("ab".to_owned(), String::new())]),
            with(|r| r.target = Target::Virtual(90)),
            with(|r| r.target = Target::Real("sm_80".to_owned())),
            with(|r| r.options = vec!["-DA".to_owned(), "-DB".to_owned()]),
            with(|r| r.options = vec!["-DB".to_owned(), "-DA".to_owned()]),
            with(|r| r.line_info = true),
            with(|r| r.name_expressions = vec!["k<3>".to_owned()]),
        ];
        assert!(keys.iter().all(|key| key.len() == 64));
        assert_eq!(key((13, 5), &base.clone()), keys[0]);
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn the_default_directory_is_in_the_users_cache() {
        assert!(Cache::default_directory().is_none_or(|path| path.ends_with("stheno/kernels")));
    }
}
