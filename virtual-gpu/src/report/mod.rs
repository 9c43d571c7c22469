//! Reports in the manner of tools that people know.

mod ncu;
mod sanitizer;

pub use ncu::{Static, ncu};
pub use sanitizer::sanitizer;
