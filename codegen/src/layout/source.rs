use super::Group;
use crate::plan::{Dtype, Plan, WeightId, WeightShape};

/// Where the weights of a plan come from.
pub trait WeightSource: Sync {
    /// The matrix of a weight, `None` if there is none of that name.
    fn matrix(&self, weight: WeightId) -> Option<SourceMatrix<'_>>;
}

/// A weight matrix [n, k] as it was loaded.
#[derive(Clone, Copy)]
pub enum SourceMatrix<'a> {
    /// Row-major little-endian elements, n * k of them. The start need not be aligned.
    Dense {
        /// Type of the elements.
        dtype: Dtype,
        /// All of them.
        bytes: &'a [u8],
    },
    /// Codes with a scale and an offset per group.
    Coded(&'a dyn CodedRows),
}

/// Rows of a coded matrix: `w[n, k] = scale[n, g] * value(code[n, k]) + offset[n, g]`.
pub trait CodedRows: Sync {
    /// What all rows have in common.
    fn coding(&self) -> Coding;

    /// Writes the codes of a row, one a byte, `out` having k elements.
    fn codes(&self, row: usize, out: &mut [u8]);

    /// Writes the scales and offsets of a row, one a group. Offsets need not be written where the coding says
    /// [`Codes::Centred`] or [`Codes::E4M3`].
    fn groups(&self, row: usize, scales: &mut [f32], offsets: &mut [f32]);
}

/// Codes and groups of a [`CodedRows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    /// What the codes mean.
    pub codes: Codes,
    /// Elements that share a scale. Coarser groups may repeat their scale in finer ones: a mapping finds that out.
    pub group: Group,
}

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// Unsigned quantum below 2^bits, with an offset per group.
    Offset {
        /// 1 to 8.
        bits: u32,
    },
    /// Unsigned quantum below 2^bits; every offset is `-zero * scale`.
    Centred {
        /// 1 to 8.
        bits: u32,
        /// The quantum that means 0.
        zero: u8,
    },
    /// FP8 E4M3; every offset is 0.
    E4M3,
}

/// The matrix of a weight with its shape, once both are known to agree.
pub(super) struct Matrix<'a> {
    pub n: usize,
    pub k: usize,
    pub source: SourceMatrix<'a>,
}

impl<'a> Matrix<'a> {
    /// Finds the matrix of a weight of the plan; what is wrong with it if it is unusable.
    pub fn find(
        plan: &Plan,
        weights: &'a dyn WeightSource,
        weight: WeightId,
    ) -> Result<Matrix<'a>, String> {
        let WeightShape::Matrix { n, k } = plan.weight(weight).shape else {
            return Err("it is a vector, a linear op needs a matrix".to_owned());
        };
        let (n, k) = (n as usize, k as usize);
        let source = weights.matrix(weight).ok_or("there is no such matrix")?;
        match source {
            SourceMatrix::Dense { dtype, bytes } => {
                let expected = n.checked_mul(k).and_then(|nk| nk.checked_mul(dtype.size()));
                if expected != Some(bytes.len()) {
                    let found = bytes.len();
                    return Err(format!("[{n}, {k}] of {dtype} in {found} bytes"));
                }
            }
            SourceMatrix::Coded(rows) => {
                if let Codes::Offset { bits } | Codes::Centred { bits, .. } = rows.coding().codes
                    && !(1..=8).contains(&bits)
                {
                    return Err(format!("its quanta have {bits} bits, a byte holds 1 to 8"));
                }
            }
        }
        Ok(Matrix { n, k, source })
    }
}
