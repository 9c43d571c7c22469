//! Speculation and the choice of tokens: the same logits give the same token on every executor.
//!
//! A draft proposes a [`Tree`] of candidate tokens, the target computes all of its rows in one call, and an
//! acceptance rule ([`acceptance::Acceptance`]) walks it from the root. Trees have a fixed shape ([`Choices`], found by
//! [`TreeSearch`]) or grow by the draft's own probabilities ([`DynamicTree`]).

pub mod acceptance;
mod choices;
mod dynamic;
mod policy;
pub mod sampling;
mod tree;
mod tree_search;

pub use acceptance::Acceptance;
pub use choices::Choices;
pub use dynamic::{DynamicTree, FrontierNode, Record};
pub use policy::{CostTable, Policy, SpeculationOptions, StepCost, TreeShape};
pub use tree::Tree;
pub use tree_search::{TreeSearch, expected_accept_len};

pub(crate) use policy::{DEEPEST, Limits, Observation, Planner};
