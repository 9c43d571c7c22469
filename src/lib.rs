//! Stheno: single-stream LLM decoding at the memory-bandwidth limit.

pub mod checkpoint;
pub mod engine;
mod error;
pub mod host;
pub mod model;
pub mod speculation;
pub mod text;

pub use error::{Error, Result};
/// The plan: the decode program as data.
pub use stheno_codegen::plan;
