//! GGUF: one file with metadata and tensors, as llama.cpp writes it.

mod metadata;

pub use metadata::{GgufMetadata, GgufValue};
