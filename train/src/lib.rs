//! Trains drafts for any target that Stheno runs: EAGLE-3 layers (Li et al., 2025) and Medusa heads (Cai et al., 2024).
//!
//! Prompts become answers of the target itself, these become [`Example`]s, a pass of the target adds [`Features`], and
//! a draft learns to guess the target's next tokens from them.

pub mod data;
mod error;
mod evaluate;
mod example;
mod target;

pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
pub use example::{Example, Features, Source};
pub use target::Target;
