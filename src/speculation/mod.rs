//! Speculation and the choice of tokens: the same logits give the same token on every executor.

pub mod sampling;
