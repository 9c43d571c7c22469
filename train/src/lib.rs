//! Trains drafts for any target that Stheno runs: EAGLE-3 layers (Li et al., 2025) and Medusa heads (Cai et al., 2024).
//!
//! Prompts become answers of the target itself, these become [`Example`]s, a pass of the target adds [`Features`], and
//! a draft learns to guess the target's next tokens from them.

mod cross_entropy;
pub mod data;
mod eagle;
mod error;
mod evaluate;
mod example;
mod learner;
mod medusa;
mod optimizer;
mod output;
mod parameters;
mod positions;
mod product;
mod random;
mod rounding;
mod run;
mod schedule;
mod target;
mod vocabulary;

pub use eagle::{EagleLearner, EagleSettings, EagleTraining};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
pub use example::{Example, Features, Source};
pub use learner::{Learner, Measure, RANKS};
pub use medusa::{MedusaLearner, MedusaSettings};
pub use optimizer::{AdamW, AdamWSettings};
pub use output::{Card, OutputDtype, tree_of, write_eagle, write_medusa};
pub use parameters::{Form, Gradients, Parameter, Parameters};
pub use product::Precision;
pub use random::{Random, order};
pub use rounding::Rounding;
pub use run::{
    EvaluationRecord, HeldOut, Outcome, Progress, Record, RunSettings, StepRecord, read_log,
    restore, run,
};
pub use schedule::{Decay, Schedule};
pub use target::Target;
