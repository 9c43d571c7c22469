use crate::interrupt::Interrupt;
use anyhow::Result;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use stheno::Error;
use stheno::engine::{AtomicFile, Session};

/// Computes `prompt` and writes logits [positions, vocab_size] of it in f32 to a safetensors file, a chunk at a time:
/// those of a long prompt do not fit the memory that the model leaves. Ctrl-C ends it with [`Error::Cancelled`], and
/// then no file is left.
pub fn dump(
    session: &mut Session,
    prompt: &[u32],
    path: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    interrupt.answering(true);
    let vocab_size = session.engine().vocab_size();
    let mut file = AtomicFile::create(path)?;
    let fault = |cause| Error::Io {
        path: path.to_owned(),
        cause,
    };
    file.write_all(&header(prompt.len(), vocab_size))
        .map_err(fault)?;
    session.score(prompt, |_, logits| {
        if interrupt.cancellation.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let mut bytes = Vec::with_capacity(4 * logits.len());
        bytes.extend(logits.iter().flat_map(|x| x.to_le_bytes()));
        file.write_all(&bytes).map_err(fault)
    })?;
    Ok(file.finish()?)
}

/// Length as u64 little-endian, then JSON, padded so that the numbers are aligned.
fn header(positions: usize, vocab_size: usize) -> Vec<u8> {
    let end = 4 * positions * vocab_size;
    let tensor =
        json!({ "dtype": "F32", "shape": [positions, vocab_size], "data_offsets": [0, end] });
    let mut json = json!({ "logits": tensor }).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_by_others() {
        let mut file = header(2, 3);
        file.resize(file.len() + 24, 0);
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(tensors.tensor("logits").unwrap().shape(), [2, 3]);
    }
}
