//! Sampling: filters, Gumbel-max on counter-based randomness, log probabilities.
//!
//! Everything that decides a token is either exact (comparisons, integer sums) or a fixed sequence of
//! correctly rounded f32 operations, so that the host, a GPU and any number of threads agree bit for bit.

mod likeliest;
mod logprobs;
mod mask;
pub mod math;
mod nucleus;
mod params;
mod penalties;
pub mod philox;
mod sampler;

#[cfg(test)]
mod reference;

pub use likeliest::likeliest;
pub use logprobs::{Logprobs, TokenLogprob};
pub use mask::TokenMask;
pub use params::SamplingParams;
pub use penalties::{TokenCount, TokenCounts};
pub use sampler::{Choice, Sampler};
