use super::CancellationToken;
use crate::speculation::SpeculationOptions;
use crate::speculation::sampling::SamplingParams;
use crate::{Error, Result};

/// How to generate, and when to stop.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How the next token is chosen.
    pub sampling: SamplingParams,
    /// Most tokens to generate; `None` goes on until the context is full.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer, where they first appear. They are not part of it.
    pub stop: Vec<String>,
    /// Goes on past the tokens that end an answer.
    pub ignore_eos: bool,
    /// Whether tokens carry their log-probability, and that many of the most probable ones beside.
    pub logprobs: Option<usize>,
    /// Whether and how the engine's draft guesses ahead. Greedy and sampled tokens are the same with and without, unless
    /// the rule of acceptance says otherwise.
    pub speculation: SpeculationOptions,
    /// Stops the generation from outside.
    pub cancellation: CancellationToken,
}

impl GenerateOptions {
    /// The most probable token, always.
    pub fn greedy(max_tokens: usize) -> Self {
        Self::sampled(max_tokens, SamplingParams::greedy())
    }

    /// Tokens drawn as `sampling` says.
    pub fn sampled(max_tokens: usize, sampling: SamplingParams) -> Self {
        GenerateOptions {
            sampling,
            max_tokens: Some(max_tokens),
            stop: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            speculation: SpeculationOptions::default(),
            cancellation: CancellationToken::new(),
        }
    }

    pub(super) fn validate(&self, vocab_size: usize) -> Result<()> {
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Invalid(
                "a stop string is empty; leave it out instead".into(),
            ));
        }
        match self.logprobs {
            Some(n) if n > vocab_size => Err(Error::Invalid(format!(
                "log-probabilities of {n} tokens, of a vocabulary of {vocab_size}"
            ))),
            _ => Ok(()),
        }
    }
}
