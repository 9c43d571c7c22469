//! The decode program of Stheno as data.
//!
//! [`plan`] is the intermediate representation that every executor runs: fused operations over named
//! buffers, in segments, with every rounding point spelled out. It knows nothing of model families or
//! checkpoints, and holds neither pointers nor closures, so a plan can be printed, compared and stored.
//! [`layout`] says how weights lie in device memory and in which order they are read, [`tune`] chooses the sizes.
//! [`jit`] compiles CUDA C++ at run time.

pub mod layout;
pub mod plan;
pub mod program;
pub mod tune;

pub use stheno_jit as jit;
