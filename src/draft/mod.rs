//! Drafts: what proposes the tokens that the target verifies.

pub mod ngram;
