//! Arithmetic of PTX on single values: types, conversions, rounding, reduced precision, tensor-core sums.

mod scalar;

pub use scalar::{Rounding, ScalarType};
