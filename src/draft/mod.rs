//! Drafts: what guesses at the tokens to come. One file or folder a kind, each with what it adds to the plan and how it
//! drafts for a sequence.

mod drafter;
mod eagle;
mod features;
mod grow;
mod medusa;
pub mod ngram;
mod open;
mod random;
mod small_model;

pub(crate) use drafter::{Ask, DraftModel, Drafter, Draw, Proposal};
pub use eagle::EagleOptions;
pub(crate) use ngram::Ngram;
pub use open::Draft;
pub(crate) use open::Way;
pub use random::RandomDraft;

use crate::model::ModelConfig;
use stheno_codegen::plan::{PlanBuilder, WeightId};

/// The matrix that the target's own logits come from.
fn target_head(target: &ModelConfig, builder: &mut PlanBuilder) -> WeightId {
    let name = match target.tie_word_embeddings {
        true => "model.embed_tokens.weight",
        false => "lm_head.weight",
    };
    builder.matrix(name, target.vocab_size, target.hidden_size)
}
