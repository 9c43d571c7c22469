//! Checkpoints: what people have on disk, as canonical matrices under Hugging Face names.

mod affine;
mod blocks;
mod builder;
mod bytes;
mod gguf;
mod hf_dir;
mod hub;
mod matrix;
mod plane;
mod quantize;
mod safetensors;
mod tensor;
mod torch;
mod weight_files;

pub use affine::{AffineMatrix, AffineShape, Offsets, Scales, TILE_ROWS};
pub use builder::{AffineBuilder, AffineForm, RowScales};
pub use gguf::{GgufMetadata, GgufStrings, GgufValue};
pub use matrix::{DenseMatrix, Matrix};
pub use quantize::WeightDtype;

use crate::error::{Error, Result};
use bytes::FileBytes;
use gguf::GgufFile;
use hf_dir::HfDir;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor::Tensor;
use weight_files::Role;

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
    /// Of a GGUF file; nothing is left of it after [`Checkpoint::forget_text`].
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
    /// Opens a Hugging Face directory or a GGUF file. The weights of a directory are safetensors, or else files of
    /// `torch.save` (`pytorch_model.bin`), whose pickles are read without anything being executed.
    ///
    /// # Errors
    /// If a file is missing, contradicts its format, or asks for what is not supported.
    pub fn open(spec: &Path) -> Result<Self> {
        Self::open_as(spec, Role::Target)
    }

    fn open_as(spec: &Path, role: Role) -> Result<Self> {
        if spec.is_dir() {
            return Self::open_dir(spec, role);
        }
        let file = FileBytes::map(spec)?;
        if !file.bytes().starts_with(&gguf::MAGIC) {
            let reason = "neither a GGUF file nor a directory with config.json and weights";
            return Err(Error::malformed(spec, reason));
        }
        Self::of_gguf(&file)
    }

    /// Like [`Checkpoint::open`], and takes the id of a model (`organisation/name`) that the hub's local cache holds;
    /// with the feature `hub` one that it does not hold is downloaded.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`], and if the id is not to be had.
    pub fn open_named(spec: &str) -> Result<Self> {
        Self::open(&hub::locate(spec, Role::Target)?)
    }

    /// A draft of speculative decoding (heads of Medusa, EAGLE's layers, a small model): like
    /// [`Checkpoint::open_named`], but tensors keep the names that they have in the file, and the weights of a
    /// directory are the first of `model.safetensors.index.json`, `model.safetensors`, `medusa_lm_head.safetensors`,
    /// `medusa_lm_head.pt`, `pytorch_model.bin.index.json`, `pytorch_model.bin`, or else the only `*.safetensors`.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open_named`]; the configuration is any JSON object.
    pub fn open_draft(spec: &str) -> Result<Self> {
        Self::open_as(&hub::locate(spec, Role::Draft)?, Role::Draft)
    }

    /// A GGUF file that is in memory.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn from_gguf(bytes: Vec<u8>) -> Result<Self> {
        Self::of_gguf(&FileBytes::owned("GGUF in memory", bytes))
    }

    /// A `config.json` and a `model.safetensors` that are in memory.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn from_safetensors(config: &[u8], bytes: Vec<u8>) -> Result<Self> {
        Self::in_memory(config, "safetensors in memory", bytes, safetensors::read)
    }

    /// A `config.json` and a file of `torch.save` that are in memory.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn from_torch(config: &[u8], bytes: Vec<u8>) -> Result<Self> {
        Self::in_memory(config, "torch file in memory", bytes, torch::read)
    }

    fn in_memory(
        config: &[u8],
        name: &str,
        bytes: Vec<u8>,
        read: fn(&FileBytes) -> Result<BTreeMap<String, Tensor>>,
    ) -> Result<Self> {
        let config = hf_dir::checked_config(Path::new("config.json"), Some(config))?;
        let file = FileBytes::owned(name, bytes);
        Ok(Checkpoint {
            path: file.path().to_owned(),
            config,
            generation_config: None,
            tensors: hf_dir::with_prefix(read(&file)?),
            metadata: None,
        })
    }

    fn open_dir(dir: &Path, role: Role) -> Result<Self> {
        let HfDir {
            config,
            generation_config,
            tensors,
        } = HfDir::open(dir, role)?;
        Ok(Checkpoint {
            path: dir.to_owned(),
            config,
            generation_config,
            tensors,
            metadata: None,
        })
    }

    fn of_gguf(file: &FileBytes) -> Result<Self> {
        let mut gguf = GgufFile::parse(file)?;
        let config = gguf.config(file.path())?;
        Ok(Checkpoint {
            path: file.path().to_owned(),
            config,
            generation_config: None,
            tensors: gguf.tensors,
            metadata: Some(gguf.metadata),
        })
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

    /// Dimensions of a tensor of whatever type, outermost first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &*tensor.shape)
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

    /// A vector of n integers that are stored as i64, i32, u8 or bool (0 and 1).
    ///
    /// # Errors
    /// If it is missing, or has another shape or type.
    pub fn integers(&self, name: &str, n: usize) -> Result<Vec<i64>> {
        self.tensor(name)?
            .integers(n)
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

    /// Lets go of what [`Checkpoint::text_source`] names: the vocabulary of a GGUF file takes as much memory as
    /// the tokenizer that is made of it.
    pub(crate) fn forget_text(&mut self) {
        if let Some(metadata) = &mut self.metadata {
            *metadata = GgufMetadata::default();
        }
    }

    /// Bytes of all tensors as stored.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.values().map(Tensor::stored_bytes).sum()
    }
}
