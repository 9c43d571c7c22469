use super::bytes::FileBytes;
use super::tensor::{Storage, Tensor};
use crate::error::{Error, Result};
use ::safetensors::{Dtype as Stored, SafeTensors};
use std::collections::BTreeMap;
use stheno_codegen::plan::Dtype;

/// The tensors of a safetensors file by name, after the header has been checked against the file.
pub(super) fn read(file: &FileBytes) -> Result<BTreeMap<String, Tensor>> {
    let malformed = |reason: String| Error::malformed(file.path(), reason);
    let (header_len, header) = SafeTensors::read_metadata(file.bytes())
        .map_err(|e| malformed(format!("not a valid safetensors file: {e}")))?;
    let data = header_len + size_of::<u64>();
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        let storage = match info.dtype {
            Stored::F32 => Storage::Float(Dtype::F32),
            Stored::F16 => Storage::Float(Dtype::F16),
            Stored::BF16 => Storage::Float(Dtype::BF16),
            other => Storage::Other(other),
        };
        let (start, end) = info.data_offsets;
        let view = (start.checked_add(data))
            .zip(end.checked_add(data))
            .and_then(|(start, end)| file.view(start..end))
            .ok_or_else(|| {
                malformed(format!("tensor `{name}` reaches over the end of the file"))
            })?;
        let tensor = Tensor {
            shape: info.shape.clone(),
            storage,
            view,
            interleaved_heads: None,
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}
