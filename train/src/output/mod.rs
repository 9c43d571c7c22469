//! Finished drafts as others load them.

mod card;
mod eagle;
mod medusa;
mod tensors;

pub use card::Card;
pub use eagle::write_eagle;
pub use medusa::{tree_of, write_medusa};
pub use tensors::OutputDtype;

use crate::{Error, Result};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use stheno::engine::AtomicFile;

/// Writes a file, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(Error::io(path))?;
    Ok(file.finish()?)
}

fn write_json(path: &Path, json: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(json);
    let text = text.map_err(|e| Error::malformed(path, e.to_string()))?;
    write(path, (text + "\n").as_bytes())
}

fn directory(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir))
}
