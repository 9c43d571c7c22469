//! Stheno: single-stream LLM decoding at the memory-bandwidth limit.
//!
//! ```no_run
//! use stheno::engine::{Device, Engine, GenerateOptions, SessionOptions};
//!
//! # fn main() -> stheno::Result<()> {
//! let engine = Engine::builder().model("dir")?.device(Device::auto()?).build()?;
//! let mut session = engine.session(SessionOptions::default())?;
//! let prompt = "Why is the sky blue?";
//! for token in session.generate(prompt, &GenerateOptions::greedy(256))? {
//!     print!("{}", token?.text);
//! }
//! # Ok(())
//! # }
//! ```

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
