//! Stheno: single-stream LLM decoding at the memory-bandwidth limit.
//!
//! A checkpoint becomes a [`plan`], an executor runs it, and an [`engine::Engine`] keeps sessions around it:
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
//!
//! - [`engine`] is what most programs need: [`engine::Engine`], [`engine::Session`], [`engine::TokenStream`]; and, for
//!   who builds engines, [`engine::Engine::forward`] over rows of any shape, of which [`engine::Session::commit`] keeps
//!   a path.
//! - [`checkpoint`] opens Hugging Face directories and GGUF files; [`model`] makes plans out of configurations;
//!   [`text`] has tokenizers, chat templates and stop strings.
//! - [`plan`] is the decode program as data, and [`host`] the executor that runs it on the CPU and defines what it means.
//! - [`device`] is the CUDA driver, or that of the virtual GPU: memory, kernels, launches.
//! - [`draft`] has what guesses at tokens to come, [`speculation`] how guesses become trees, and which are accepted.
//! - [`speculation::sampling`] chooses tokens: equal logits and an equal seed give an equal choice everywhere.
//!
//! The logits of a row do not depend on the rows beside it, on the number of threads or on the instruction set, not by a
//! bit. Errors are values of [`Error`], with one sentence that says what was at fault; input never panics.
//!
//! Spans `load`, `prefill` (level info) and `step` (level debug) go to whatever [`tracing`] subscriber there is.

pub mod checkpoint;
pub mod device;
pub mod draft;
pub mod engine;
mod error;
pub mod host;
pub mod model;
pub mod speculation;
pub mod text;

pub use error::{Error, Result};
/// The plan: the decode program as data.
pub use stheno_codegen::plan;
