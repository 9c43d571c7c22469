//! Arithmetic of PTX on single values: types, conversions, rounding, reduced precision, tensor-core sums.
//!
//! Everything here is a pure function of its operands. Scalars of 16 bits and less travel as their bits, `f32` and
//! `f64` as themselves; every floating-point result that is not a number is canonical (`0x7fff`, `0x7fffffff`).
//!
//! Hot functions are without branches and inlined always, so that a loop over the lanes of a warp becomes vector code
//! for whatever instruction set the caller enables: a function that is merely called would keep the crate's own.

pub mod approx;
pub mod convert;
pub mod float32;
pub mod float64;
pub mod fp8;
pub mod half;
pub mod mma;
mod round;
mod scalar;

pub use convert::{Convert, pack_saturated};
pub use half::HalfMode;
pub use mma::{Arch, Mma, MmaMode, MmaShape};
pub use scalar::{Rounding, ScalarType};
