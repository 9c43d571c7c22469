use super::Session;
use super::atomic_file::AtomicFile;
use super::executor::SessionKv;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use stheno_codegen::plan::{KV_PAGE, KvDecl};

const MAGIC: &[u8; 8] = b"STHENOKV";
const VERSION: u32 = 2;
/// More than the tokens of any context take as JSON; a longer header is no header.
const MAX_HEADER: u64 = 64 << 20;

/// What stands before the pages of K and V: magic, length as u64 little-endian, then this as JSON. As many pages follow as the tokens
/// take, each `[layer][K, V][kv head][position 128][head_dim]` in the type of the cache, little-endian, whatever computed them.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    /// Of the plan and the weights that computed the KV.
    fingerprint: u64,
    kv: KvDecl,
    tokens: Vec<u32>,
}

impl Session {
    /// Writes tokens and KV to a file, which appears complete or not at all. What a draft keeps of the tokens is not part of it.
    ///
    /// # Errors
    /// If it cannot be written, or the device failed before.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let kv = self.engine.plan().kv;
        let header = Header {
            version: VERSION,
            fingerprint: self.engine.fingerprint(),
            kv,
            tokens: self.tokens.clone(),
        };
        let header = serde_json::to_vec(&header).map_err(|e| Error::io(path, e.into()))?;
        let mut file = AtomicFile::create(path)?;
        let length = (header.len() as u64).to_le_bytes();
        let mut page = vec![0; kv.page_bytes()];
        for part in [&MAGIC[..], &length, &header] {
            file.write_all(part).map_err(|e| Error::io(path, e))?;
        }
        for index in 0..self.kv.pages() {
            self.kv.read_page(index, &mut page)?;
            file.write_all(&page).map_err(|e| Error::io(path, e))?;
        }
        file.finish()
    }

    /// Replaces tokens and KV by those of a file.
    ///
    /// # Errors
    /// If the file is no such file, or was written by another model, precision or context length, or holds more than this session
    /// or the device's memory may. The session is unchanged then.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let decl = self.engine.plan().kv;
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
        let executor = &self.engine.shared.executor;
        let mut kv = SessionKv::new(executor, self.engine.plan());
        let mut page = vec![0; decl.page_bytes()];
        for tokens in header.tokens.chunks(KV_PAGE) {
            (input.read_exact(&mut page))
                .map_err(|_| Error::malformed(path, "it was cut short"))?;
            kv.push_page(executor, &page, tokens.len())?;
        }
        if input.read(&mut [0]).map_err(|e| Error::io(path, e))? != 0 {
            let count = header.tokens.len();
            let reason = format!("it lists {count} tokens and holds KV of more");
            return Err(Error::malformed(path, reason));
        }
        self.restore(kv, header.tokens)
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
