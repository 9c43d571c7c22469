//! What drafts learn from: prompts become answers of the target ([`Resampler`]), these examples with the target's hidden
//! states ([`FeatureComputer`], [`FeatureStore`]), and their tokens the vocabulary of a draft ([`draft_vocabulary`]).

mod answers;
mod examples;
mod features;
mod prompts;
mod resample;
mod shards;
mod slot;
mod store;
mod vocabulary;

pub use answers::Answered;
pub use examples::read_examples;
pub use features::{FeatureComputer, OnlineSource};
pub use prompts::{Conversation, Turn, read_conversations};
pub use resample::{Progress, Resampler, Settings, Temperatures};
pub use shards::Shards;
pub use store::{FeatureStore, FeatureWriter};
pub use vocabulary::{Coverage, draft_vocabulary};
