//! The matrix path against f64 references and against itself, on the virtual GPU.

mod chain;
mod epilogues;
mod matrix;
mod products;
mod runner;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../../../codegen/tests/layout/weights.rs"]
mod weights;
