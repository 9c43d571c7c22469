use super::Session;
use super::atomic_file::AtomicFile;
use super::executor::SessionKv;
use crate::host::KvSequence;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use stheno_codegen::plan::KvDecl;

const MAGIC: &[u8; 8] = b"STHENOKV";
const VERSION: u32 = 1;
/// More than the tokens of any context take as JSON; a longer header is no header.
const MAX_HEADER: u64 = 64 << 20;

/// What stands before the pages of K and V: magic, length as u64 little-endian, then this as JSON.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    /// Of the plan and the weights that computed the KV.
    fingerprint: u64,
    kv: KvDecl,
    tokens: Vec<u32>,
}

impl Session {
    /// Writes tokens and KV to a file, which appears complete or not at all.
    ///
    /// # Errors
    /// If it cannot be written, or the session is on a device.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let kv = self.kv.host("a session cannot be saved")?;
        let header = Header {
            version: VERSION,
            fingerprint: self.engine.fingerprint(),
            kv: *kv.decl(),
            tokens: self.tokens.clone(),
        };
        let mut file = AtomicFile::create(path)?;
        let mut write = || -> std::io::Result<()> {
            let header = serde_json::to_vec(&header)?;
            file.write_all(MAGIC)?;
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            kv.write_to(&mut file)
        };
        write().map_err(|e| Error::io(path, e))?;
        file.finish()
    }

    /// Replaces tokens and KV by those of a file.
    ///
    /// # Errors
    /// If the file is no such file, or was written by another model, precision or context length, or holds more than this session
    /// may. The session is unchanged then.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let decl = *self.kv.host("a session cannot be loaded")?.decl();
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let mut input = BufReader::with_capacity(1 << 18, file);
        let header = read_header(&mut input, path)?;
        if header.version != VERSION {
            let reason = format!("its version is {}, expected {VERSION}", header.version);
            return Err(Error::malformed(path, reason));
        }
        if header.fingerprint != self.engine.fingerprint() || header.kv != decl {
            return Err(Error::malformed(
                path,
                "it was saved from another model, precision or context length; load it with what saved it",
            ));
        }
        if header.tokens.len() > self.context_length() {
            return Err(Error::ContextOverflow {
                needed: header.tokens.len(),
                context_length: self.context_length(),
            });
        }
        self.engine.check_tokens(&header.tokens)?;
        let kv = KvSequence::read_from(header.kv, header.tokens.len(), &mut input)
            .map_err(|e| Error::malformed(path, format!("the KV pages: {e}")))?;
        let rest = input.read(&mut [0]).map_err(|e| Error::io(path, e))?;
        if kv.len() != header.tokens.len() || rest != 0 {
            let reason = format!(
                "it lists {} tokens and holds KV of other length",
                header.tokens.len()
            );
            return Err(Error::malformed(path, reason));
        }
        self.restore(SessionKv::Host(kv), header.tokens)
    }
}

fn read_header(input: &mut impl Read, path: &Path) -> Result<Header> {
    let short = |_| Error::malformed(path, "it is no saved session, or was cut short");
    let mut start = [0; 16];
    input.read_exact(&mut start).map_err(short)?;
    let (magic, length) = start.split_at(8);
    let length = length.try_into().map_or(u64::MAX, u64::from_le_bytes);
    if magic != MAGIC || length > MAX_HEADER {
        return Err(Error::malformed(path, "it is no saved session"));
    }
    let mut header = Vec::new();
    // Grows with what the file holds, not with what it claims.
    let read = input.take(length).read_to_end(&mut header);
    let read = read.map_err(|e| Error::io(path, e))?;
    if read as u64 != length {
        return Err(Error::malformed(path, "it was cut short"));
    }
    serde_json::from_slice(&header)
        .map_err(|e| Error::malformed(path, format!("its header is not readable: {e}")))
}
