use super::bytes::View;
use super::{DenseMatrix, Matrix};
use crate::error::Error;
use half::{bf16, f16};
use std::path::Path;
use stheno_codegen::plan::Dtype;

/// A tensor where it lies, in the terms that both formats share.
#[derive(Debug)]
pub(super) struct Tensor {
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    pub storage: Storage,
    pub view: View,
    /// Heads whose rows are interleaved for a rotation of adjacent pairs; undone when read.
    pub interleaved_heads: Option<usize>,
}

/// Encoding of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Float(Dtype),
    /// Anything else, by name: there, but of no use to a model.
    Other(&'static str),
}

/// How a tensor differs from what was asked for.
#[derive(Debug)]
pub(super) struct Mismatch {
    expected: String,
    found: String,
}

impl Mismatch {
    /// The error, once it is known which tensor it is.
    pub fn of(self, path: &Path, tensor: &str) -> Error {
        Error::Tensor {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            expected: self.expected,
            found: self.found,
        }
    }
}

impl Tensor {
    pub fn is_quantized(&self) -> bool {
        false
    }

    pub fn stored_bytes(&self) -> u64 {
        self.view.len() as u64
    }

    pub fn matrix(&self, n: usize, k: usize) -> Result<Matrix, Mismatch> {
        let mismatch = || self.mismatch(&format!("a matrix [{n}, {k}]"));
        if self.shape != [n, k] {
            return Err(mismatch());
        }
        match self.storage {
            Storage::Float(dtype) => {
                DenseMatrix::new(n, k, dtype, Box::new(self.view.clone())).map(Matrix::Dense)
            }
            Storage::Other(_) => None,
        }
        .ok_or_else(mismatch)
    }

    pub fn vector(&self, n: usize) -> Result<Vec<f32>, Mismatch> {
        let mismatch = || self.mismatch(&format!("a vector [{n}] of floats"));
        if self.shape != [n] {
            return Err(mismatch());
        }
        let bytes = self.view.as_ref();
        match self.storage {
            Storage::Float(Dtype::F32) => Ok(widen(bytes, f32::from_le_bytes)),
            Storage::Float(Dtype::F16) => Ok(widen(bytes, |b| f16::from_le_bytes(b).to_f32())),
            Storage::Float(Dtype::BF16) => Ok(widen(bytes, |b| bf16::from_le_bytes(b).to_f32())),
            Storage::Other(_) => Err(mismatch()),
        }
    }

    fn mismatch(&self, expected: &str) -> Mismatch {
        let kind = match self.storage {
            Storage::Float(dtype) => dtype.to_string(),
            Storage::Other(name) => name.to_owned(),
        };
        Mismatch {
            expected: expected.to_owned(),
            found: format!("{kind} {:?}", self.shape),
        }
    }
}

fn widen<const SIZE: usize>(bytes: &[u8], f: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<SIZE>().0.iter().map(|b| f(*b)).collect()
}
