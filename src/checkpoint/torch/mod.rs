//! Checkpoints of `torch.save` since PyTorch 1.6: a zip archive of stored entries, `NAME/data.pkl` with a pickle of
//! the containers and `NAME/data/KEY` with the elements of each storage.

mod archive;
mod layout;
mod node;
mod pickle;
mod tree;

use super::bytes::{FileBytes, View};
use super::tensor::Tensor;
use crate::error::{Error, Result};
use archive::Archive;
use node::TensorRef;
use std::collections::BTreeMap;

/// The tensors of a file of `torch.save` by name, after everything has been checked against the file.
///
/// Row-major tensors are views of the file, whatever they share; those with other strides are copied, all of them
/// together at most once the length of the file.
pub(super) fn read(file: &FileBytes) -> Result<BTreeMap<String, Tensor>> {
    let malformed = |reason: String| Error::malformed(file.path(), reason);
    let archive = Archive::open(file)?;
    let entry = |name: &str| archive.entry(name).map(|range| &file.bytes()[range]);
    match entry("byteorder") {
        // Not written before 2.1, and then the order of the processor.
        None | Some(b"little") => {}
        Some(b"big") => {
            return Err(malformed(
                "elements are big-endian, which is not supported".to_owned(),
            ));
        }
        Some(_) => {
            return Err(malformed(
                "`byteorder` is neither little nor big".to_owned(),
            ));
        }
    }
    let pickle =
        entry("data.pkl").ok_or_else(|| malformed("the archive has no `data.pkl`".to_owned()))?;
    let tree = pickle::read(pickle).map_err(malformed)?;
    let mut copied = 0;
    let mut tensors = BTreeMap::new();
    for (name, found) in tree.tensors().map_err(malformed)? {
        let of_tensor = |reason: String| malformed(format!("tensor `{}` {reason}", excerpt(&name)));
        let view = view_of(file, &archive, found, &mut copied).map_err(of_tensor)?;
        let tensor = Tensor {
            shape: found.shape.clone(),
            storage: found.storage.storage,
            view,
            interleaved_heads: None,
        };
        if tensors.contains_key(&name) {
            return Err(of_tensor("is there twice".to_owned()));
        }
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// The elements of a tensor in row-major order; `copied` counts the bytes that had to be put in order.
fn view_of(
    file: &FileBytes,
    archive: &Archive,
    tensor: &TensorRef<'_>,
    copied: &mut usize,
) -> Result<View, String> {
    let storage = &tensor.storage;
    let (block, bytes) = storage.storage.block();
    let size = bytes / block;
    let range = archive.entry(&format!("data/{}", storage.key));
    let range = range
        .ok_or_else(|| format!("is in storage `{}`, which is missing", excerpt(storage.key)))?;
    if storage
        .elements
        .checked_mul(size)
        .is_none_or(|bytes| bytes > range.len())
    {
        let (key, found) = (excerpt(storage.key), range.len());
        let (count, kind) = (storage.elements, storage.storage);
        return Err(format!(
            "is in storage `{key}` of {count} {kind}, which has {found} bytes"
        ));
    }
    let extent = layout::extent(&tensor.shape, &tensor.strides)
        .filter(|extent| {
            let end = tensor.offset.checked_add(extent.span);
            end.is_some_and(|end| end <= storage.elements)
        })
        .ok_or_else(|| {
            let (shape, strides, offset) = (&tensor.shape, &tensor.strides, tensor.offset);
            let (key, count) = (excerpt(storage.key), storage.elements);
            format!("({shape:?} with strides {strides:?} at {offset}) reaches over storage `{key}` of {count} elements")
        })?;
    let start = range.start + tensor.offset * size;
    let bytes = start..start + extent.span * size;
    let over = || "reaches over the end of the file".to_owned();
    if layout::is_row_major(&tensor.shape, &tensor.strides) {
        return file.view(bytes).ok_or_else(over);
    }
    if extent.elements > extent.span {
        return Err(format!(
            "has strides {:?}, which repeat elements",
            tensor.strides
        ));
    }
    *copied += extent.elements * size;
    if *copied > file.bytes().len() {
        return Err("and others would be copied more often than the file is long".to_owned());
    }
    let source = file.bytes().get(bytes).ok_or_else(over)?;
    let copy = layout::row_major(source, &tensor.shape, &tensor.strides, size);
    let len = copy.len();
    let copy = FileBytes::owned("tensor in row-major order", copy);
    copy.view(0..len).ok_or_else(over)
}

/// A name out of a file as a message can show it: no control characters, and not all of a long one.
fn excerpt(name: &str) -> String {
    const LONGEST: usize = 100;
    let mut text: String = name
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push_str("...");
    }
    text
}
