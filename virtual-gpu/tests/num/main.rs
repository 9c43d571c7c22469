//! The arithmetic of `virtual_gpu::num` against exact models that work in another way: big integers and enumeration.

mod approx;
mod convert;
mod float32;
mod float64;
mod fp8;
mod half;
mod matrix;
mod mma;
mod reference;
