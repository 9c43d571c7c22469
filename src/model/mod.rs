//! Models: a family is a function from its `config.json` to a plan, one file each.
//!
//! [`ModelConfig`] is the parsed and checked configuration, [`build_plan`] turns it into the ops that every
//! executor runs.

mod config;
mod decoder;
mod emitter;
mod family;
mod llama;
mod load;
mod mistral;
mod named;
mod normalize;
mod options;
mod qwen2;
mod qwen3;
mod random;
mod rope;

pub use config::ModelConfig;
pub use decoder::build_plan;
pub use load::{DraftWeights, LoadProgress, WeightLoader, load_weights};
pub use named::NamedModel;
pub use options::{ActivationDtype, Features, PlanOptions, Precision};
pub use random::{RandomFormat, RandomModel, RandomWeights};
pub use rope::RopeScaling;

pub(crate) use decoder::{kv_decl, stack, target_plan};
pub(crate) use emitter::{AttentionShape, Emitter, FeedForwardShape, Stream};
