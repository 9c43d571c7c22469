use super::SpeculationStatistics;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its answer, or a stop string appeared.
    Stop,
    /// The limit of tokens or of the context was reached.
    Length,
    /// A [`super::CancellationToken`] was cancelled.
    Cancelled,
    /// A step failed; the last item of the stream says how.
    Error,
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Error => "error",
        })
    }
}

/// What one generation did, and how long it took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Statistics {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them whose KV the session held already.
    pub reused_tokens: usize,
    /// Time to compute the others.
    pub prefill: Duration,
    /// Tokens generated. The first one costs no step: its logits come from the prompt.
    pub generated_tokens: usize,
    /// Decoding steps: one a token, or one a round of speculation.
    pub decode_steps: usize,
    /// Time of the decoding steps, drafting and sampling included.
    pub decode: Duration,
    /// What speculation did; `None` without.
    pub speculation: Option<SpeculationStatistics>,
    /// Time to load the model.
    pub load: Duration,
}

impl Statistics {
    /// Prompt tokens computed per second; 0 if there were none.
    pub fn prefill_tokens_per_second(&self) -> f64 {
        rate(self.prompt_tokens - self.reused_tokens, self.prefill)
    }

    /// Tokens that decoding steps gave per second; 0 if there were none.
    pub fn decode_tokens_per_second(&self) -> f64 {
        rate(self.generated_tokens.saturating_sub(1), self.decode)
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    match time.as_secs_f64() {
        seconds if seconds > 0.0 => count as f64 / seconds,
        _ => 0.0,
    }
}
