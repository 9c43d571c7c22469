use crate::failure::Usage;
use anyhow::{Context, Result};
use std::io::Read;
use std::path::Path;

/// A text file, or standard input for `-`.
pub fn read_text(path: &Path) -> Result<String> {
    let name = path.display();
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("standard input")?;
    } else {
        bytes = std::fs::read(path).with_context(|| format!("{name}"))?;
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{name}: the text is not UTF-8 (byte {at}); convert it first")
    })?;
    if text.is_empty() {
        return Err(Usage(format!("{name}: the file is empty; give a prompt")).into());
    }
    Ok(text)
}
