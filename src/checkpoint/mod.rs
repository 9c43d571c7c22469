//! Checkpoints: what people have on disk, as canonical matrices under Hugging Face names.

mod affine;
mod blocks;
mod builder;
mod bytes;
mod gguf;
mod matrix;
mod plane;
mod tensor;

pub use affine::{AffineMatrix, AffineShape, Offsets, Scales, TILE_ROWS};
pub use builder::{AffineBuilder, AffineForm, RowScales};
pub use gguf::{GgufMetadata, GgufValue};
pub use matrix::{DenseMatrix, Matrix};

use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor::Tensor;

/// A checkpoint: configuration and tensors under their Hugging Face names, whatever the format on disk.
///
/// Opening reads headers only; [`Checkpoint::matrix`] gives views of the mapped file where the format is a dense
/// one and repacks quantized blocks.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: Value,
    generation_config: Option<Value>,
    tensors: BTreeMap<String, Tensor>,
    /// Of a GGUF file.
    metadata: Option<GgufMetadata>,
}

/// Where tokenizer and chat template of a checkpoint are.
#[derive(Debug, Clone, Copy)]
pub enum TextSource<'a> {
    /// In files of a Hugging Face directory.
    Directory(&'a Path),
    /// In GGUF metadata.
    Gguf(&'a GgufMetadata),
}

impl Checkpoint {
    /// Opens a Hugging Face directory or a GGUF file.
    ///
    /// # Errors
    /// If a file is missing, contradicts its format, or asks for what is not supported.
    pub fn open(spec: &Path) -> Result<Self> {
        Err(Error::Unsupported(format!("opening {}", spec.display())))
    }

    /// Like [`Checkpoint::open`], and takes the id of a model (`organisation/name`) that the hub's local cache holds;
    /// with the feature `hub` one that it does not hold is downloaded.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`], and if the id is not to be had.
    pub fn open_named(spec: &str) -> Result<Self> {
        Self::open(Path::new(spec))
    }

    /// The directory or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration, shaped like a Hugging Face `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The content of `generation_config.json`.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether any matrix is stored in integers.
    pub fn is_quantized(&self) -> bool {
        self.tensors.values().any(Tensor::is_quantized)
    }

    /// A matrix [n, k]: a view of the file if dense, repacked if quantized.
    ///
    /// # Errors
    /// If it is missing, or has another shape or an unsupported type.
    pub fn matrix(&self, name: &str, n: usize, k: usize) -> Result<Matrix> {
        self.tensor(name)?
            .matrix(n, k)
            .map_err(|mismatch| mismatch.of(&self.path, name))
    }

    /// A vector of n numbers, in f32.
    ///
    /// # Errors
    /// If it is missing, or has another shape or an unsupported type.
    pub fn vector(&self, name: &str, n: usize) -> Result<Vec<f32>> {
        self.tensor(name)?
            .vector(n)
            .map_err(|mismatch| mismatch.of(&self.path, name))
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
        })
    }

    /// Where tokenizer and chat template are.
    pub fn text_source(&self) -> TextSource<'_> {
        match &self.metadata {
            Some(metadata) => TextSource::Gguf(metadata),
            None => TextSource::Directory(&self.path),
        }
    }

    /// Bytes of all tensors as stored.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.values().map(Tensor::stored_bytes).sum()
    }
}
