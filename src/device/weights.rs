//! Loaded weights as the layout of the arena wants them, and the way of the arena to the device.

use super::{DeviceBuffer, DeviceError};
use crate::checkpoint::{AffineMatrix, Matrix, Offsets};
use crate::host::Weight;
use stheno_codegen::layout::{
    ArenaSink, CodedRows, Codes, Coding, Group, LayoutError, SourceMatrix, WeightSource,
};
use stheno_codegen::plan::WeightId;

/// All weights of a plan as a device program takes them.
pub trait ModelWeights: WeightSource {
    /// The vector of a weight in f32, `None` if it is none.
    fn vector(&self, weight: WeightId) -> Option<&[f32]>;
}

/// The weights of a plan, in its order, as loaded for the host executor. They are read where they lie: nothing is copied
/// before the arena is packed.
#[derive(Debug, Clone, Copy)]
pub struct DeviceWeights<'a> {
    weights: &'a [Weight],
}

impl<'a> DeviceWeights<'a> {
    /// Weights, one for each declaration of a plan in order.
    pub fn new(weights: &'a [Weight]) -> Self {
        DeviceWeights { weights }
    }
}

impl WeightSource for DeviceWeights<'_> {
    fn matrix(&self, weight: WeightId) -> Option<SourceMatrix<'_>> {
        let Weight::Matrix(matrix) = self.weights.get(weight.index())? else {
            return None;
        };
        Some(match &**matrix {
            Matrix::Dense(dense) => SourceMatrix::Dense {
                dtype: dense.dtype(),
                bytes: dense.bytes(),
            },
            Matrix::Affine(affine) => SourceMatrix::Coded(affine),
        })
    }
}

impl ModelWeights for DeviceWeights<'_> {
    fn vector(&self, weight: WeightId) -> Option<&[f32]> {
        match self.weights.get(weight.index())? {
            Weight::Vector(vector) => Some(vector),
            Weight::Matrix(_) => None,
        }
    }
}

/// The quanta as they were in the file; scales of two levels multiplied, which is exact in f32.
impl CodedRows for AffineMatrix {
    fn coding(&self) -> Coding {
        let shape = self.shape();
        let bits = shape.bits;
        Coding {
            codes: match *self.offsets() {
                Offsets::Zero(zero) => Codes::Centred { bits, zero },
                Offsets::Min(_) => Codes::Offset { bits },
            },
            // `AffineBuilder` makes no others.
            group: if shape.group == 16 {
                Group::G16
            } else {
                Group::G32
            },
        }
    }

    fn codes(&self, row: usize, out: &mut [u8]) {
        self.quanta_row(row, out);
    }

    fn groups(&self, row: usize, scales: &mut [f32], offsets: &mut [f32]) {
        for (group, (scale, offset)) in scales.iter_mut().zip(offsets).enumerate() {
            (*scale, *offset) = self.group(row, group);
        }
    }
}

/// Takes an arena to the start of device memory, batch by batch. A batch has arrived when the call returns, while the next
/// one is being packed.
#[derive(Debug)]
pub struct ArenaUpload<'a> {
    buffer: &'a DeviceBuffer,
}

impl<'a> ArenaUpload<'a> {
    /// To a buffer of at least [`stheno_codegen::layout::Layout::arena_bytes`].
    pub fn new(buffer: &'a DeviceBuffer) -> Self {
        ArenaUpload { buffer }
    }
}

/// Why an arena did not get to the device.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It could not be packed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// It could not be copied.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl ArenaSink for ArenaUpload<'_> {
    type Error = UploadError;

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), UploadError> {
        Ok(self.buffer.write(offset, bytes)?)
    }
}
