//! Kernel case files: one JSON file describes one launch (kernel, grid, block, arguments with generated contents), so
//! that any kernel can be run, checked and compared from the command line. The caller allocates the buffers, fills them
//! with [`contents`], puts the addresses and scalars together with [`pack`] and prints a [`Report`].

mod dtype;
mod error;
mod generate;
mod number;
mod pack;
mod report;
mod spec;
mod tensor;

pub use dtype::Dtype;
pub use error::CaseError;
pub use generate::contents;
pub use pack::{PackedArg, pack};
pub use report::Report;
pub use spec::{Arg, BufferArg, Case, Init, Role, ScalarArg};
pub use tensor::TensorMapArg;
