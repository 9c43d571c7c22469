//! Checkpoints: what people have on disk, as canonical matrices under Hugging Face names.

mod affine;
mod matrix;

pub use affine::{AffineMatrix, AffineShape, Offsets, Scales, TILE_ROWS};
pub use matrix::{DenseMatrix, Matrix};
