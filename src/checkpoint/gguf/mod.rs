//! GGUF: one file with metadata and tensors, as llama.cpp writes it.

mod config;
mod file;
mod ggml_type;
mod metadata;
mod names;
mod reader;
mod strings;

pub(super) use file::{GgufFile, MAGIC};
pub use metadata::{GgufMetadata, GgufValue};
pub use strings::GgufStrings;
