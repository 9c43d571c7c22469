//! The decode program of Stheno as data.
//!
//! [`plan`] is the intermediate representation that every executor runs: fused operations over named
//! buffers, in segments, with every rounding point spelled out. It knows nothing of model families or
//! checkpoints, and holds neither pointers nor closures, so a plan can be printed, compared and stored.
//! [`jit`] compiles CUDA C++ at run time.

pub mod plan;

pub use stheno_jit as jit;
