use super::blocks::BlockFormat;
use super::bytes::View;
use super::{DenseMatrix, Matrix};
use crate::error::Error;
use ::safetensors::Dtype as Stored;
use half::{bf16, f16};
use std::fmt;
use std::path::Path;
use stheno_codegen::plan::Dtype;

/// A tensor where it lies, in the terms that the formats share.
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
    Blocks(BlockFormat),
    /// Anything else, by name: integers, and what is of no use to a model.
    Other(Stored),
}

impl Storage {
    /// Elements and bytes of the smallest part that stands alone.
    pub fn block(self) -> (usize, usize) {
        match self {
            Storage::Float(dtype) => (1, dtype.size()),
            Storage::Blocks(format) => format.block(),
            Storage::Other(dtype) => (8, dtype.bitsize()),
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Storage::Float(dtype) => dtype.fmt(f),
            Storage::Blocks(format) => f.write_str(format.name()),
            Storage::Other(dtype) => write!(f, "{dtype:?}"),
        }
    }
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
        matches!(self.storage, Storage::Blocks(_))
    }

    pub fn stored_bytes(&self) -> u64 {
        self.view.len() as u64
    }

    pub fn matrix(&self, n: usize, k: usize) -> Result<Matrix, Mismatch> {
        let matrix = (self.shape == [n, k]).then(|| self.read_matrix(n, k));
        matrix
            .flatten()
            .ok_or_else(|| self.mismatch(format!("a matrix [{n}, {k}]")))
    }

    fn read_matrix(&self, n: usize, k: usize) -> Option<Matrix> {
        let rows = RowOrder::new(n, self.interleaved_heads)?;
        match self.storage {
            Storage::Blocks(format) => {
                let matrix = format.repack(&self.view, n, k, |row| rows.source(row));
                self.view.release_file();
                matrix.map(Matrix::Affine)
            }
            Storage::Float(dtype) => {
                let data: Box<dyn AsRef<[u8]> + Send + Sync> = match rows {
                    RowOrder::Same => Box::new(self.view.clone()),
                    RowOrder::Interleaved { .. } => Box::new(self.reordered(k, dtype, rows)),
                };
                DenseMatrix::new(n, k, dtype, data).map(Matrix::Dense)
            }
            Storage::Other(_) => None,
        }
    }

    pub fn vector(&self, n: usize) -> Result<Vec<f32>, Mismatch> {
        let vector = (self.shape == [n]).then(|| self.read_vector(n));
        vector
            .flatten()
            .ok_or_else(|| self.mismatch(format!("a vector [{n}] of floats")))
    }

    fn read_vector(&self, n: usize) -> Option<Vec<f32>> {
        let Storage::Float(dtype) = self.storage else {
            return None;
        };
        let rows = RowOrder::new(n, self.interleaved_heads)?;
        let bytes = self.reordered(1, dtype, rows);
        let values = match dtype {
            Dtype::F32 => each(&bytes, f32::from_le_bytes),
            Dtype::F16 => each(&bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => each(&bytes, |b| bf16::from_le_bytes(b).to_f32()),
        };
        self.view.release_file();
        (values.len() == n).then_some(values)
    }

    pub fn integers(&self, n: usize) -> Result<Vec<i64>, Mismatch> {
        let integers = (self.shape == [n]).then(|| self.read_integers());
        integers
            .flatten()
            .filter(|integers| integers.len() == n)
            .ok_or_else(|| self.mismatch(format!("a vector [{n}] of integers")))
    }

    fn read_integers(&self) -> Option<Vec<i64>> {
        let Storage::Other(dtype) = self.storage else {
            return None;
        };
        let bytes = self.view.as_ref();
        Some(match dtype {
            Stored::I64 => each(bytes, i64::from_le_bytes),
            Stored::I32 => each(bytes, |b| i32::from_le_bytes(b).into()),
            Stored::U8 => each(bytes, |[byte]| byte.into()),
            Stored::BOOL => each(bytes, |[byte]| (byte != 0).into()),
            _ => return None,
        })
    }

    /// A copy of the rows of k elements in their Hugging Face order.
    fn reordered(&self, k: usize, dtype: Dtype, rows: RowOrder) -> Vec<u8> {
        let (bytes, row_bytes) = (self.view.as_ref(), k * dtype.size());
        let mut copy = Vec::with_capacity(bytes.len());
        for row in 0..bytes.len().checked_div(row_bytes).unwrap_or(0) {
            copy.extend_from_slice(&bytes[rows.source(row) * row_bytes..][..row_bytes]);
        }
        copy
    }

    fn mismatch(&self, expected: String) -> Mismatch {
        let found = format!("{} {:?}", self.storage, self.shape);
        Mismatch { expected, found }
    }
}

/// Which stored row is row i of the Hugging Face tensor.
#[derive(Debug, Clone, Copy)]
enum RowOrder {
    Same,
    /// Within a head, stored rows 2 i and 2 i + 1 are rows i and i + head_dim / 2.
    Interleaved {
        head_dim: usize,
    },
}

impl RowOrder {
    fn new(n: usize, interleaved_heads: Option<usize>) -> Option<Self> {
        let Some(heads) = interleaved_heads else {
            return Some(RowOrder::Same);
        };
        let head_dim = n.checked_div(heads)?;
        let even = head_dim * heads == n && head_dim > 0 && head_dim.is_multiple_of(2);
        even.then_some(RowOrder::Interleaved { head_dim })
    }

    fn source(self, row: usize) -> usize {
        match self {
            RowOrder::Same => row,
            RowOrder::Interleaved { head_dim } => {
                let (head, i) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (i % half) + i / half
            }
        }
    }
}

fn each<const SIZE: usize, T>(bytes: &[u8], f: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
    bytes.as_chunks::<SIZE>().0.iter().map(|b| f(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::RowOrder;

    #[test]
    fn rows_of_a_head_are_put_apart_again() {
        // What the converter does to a head of 8 rows.
        let stored = [0, 4, 1, 5, 2, 6, 3, 7];
        let order = RowOrder::new(16, Some(2)).unwrap();
        for row in 0..16 {
            assert_eq!(stored[order.source(row) % 8] + row / 8 * 8, row);
        }
        assert!(RowOrder::new(15, Some(2)).is_none());
        assert!(RowOrder::new(6, Some(2)).is_none());
        assert!(RowOrder::new(6, Some(0)).is_none());
    }
}
