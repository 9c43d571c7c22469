//! Compiled kernels on disk.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
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
#[error("the kernel cache {} cannot be opened: {source}; choose another directory", .path.display())]
pub struct CacheError {
    /// The directory.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
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
/// and the format. It appears whole (a rename) and carries a hash of its content; one that does not match is deleted and
/// compiled anew. Nothing is ever evicted: the directory may be deleted at any time.
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
            Err(source) => Err(CacheError {
                path: directory,
                source,
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
        let body = encode(compiled)?;
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

fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

/// The name of the entry: SHA-256, in hexadecimal, over lengths and contents of everything that decides the output.
fn key(version: (u32, u32), request: &Request) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let mut list = |texts: &[&str]| {
        field(&(texts.len() as u64).to_le_bytes());
        texts.iter().for_each(|text| field(text.as_bytes()));
    };
    let options = request.all_options();
    list(&[
        &String::from_utf8_lossy(MAGIC),
        &version.0.to_string(),
        &version.1.to_string(),
    ]);
    list(&[&request.name, &request.source]);
    list(
        &request
            .headers
            .iter()
            .flat_map(|(name, text)| [name.as_str(), text])
            .collect::<Vec<_>>(),
    );
    list(&options.iter().map(String::as_str).collect::<Vec<_>>());
    list(
        &request
            .name_expressions
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
