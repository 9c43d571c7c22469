use serde_json::{Value, json};
use std::time::Duration;
use stheno::engine::{SpeculationStatistics, Statistics};

/// What one way of decoding did in some answers.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// Tokens generated.
    pub tokens: usize,
    /// Those of them that took steps: the first of an answer comes of the prompt.
    pub decoded: usize,
    pub prefill: Duration,
    pub decode: Duration,
}

impl Side {
    pub fn of(statistics: &Statistics) -> Self {
        Side {
            tokens: statistics.generated_tokens,
            decoded: statistics.generated_tokens.saturating_sub(1),
            prefill: statistics.prefill,
            decode: statistics.decode,
        }
    }

    fn add(&mut self, other: &Side) {
        self.tokens += other.tokens;
        self.decoded += other.decoded;
        self.prefill += other.prefill;
        self.decode += other.decode;
    }

    /// Tokens per second of decoding.
    pub fn rate(&self) -> f64 {
        ratio(self.decoded as f64, self.decode.as_secs_f64())
    }

    /// Tokens per second, the prompts' time counted.
    pub fn whole_rate(&self) -> f64 {
        ratio(
            self.tokens as f64,
            (self.prefill + self.decode).as_secs_f64(),
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "tokens": self.tokens,
            "prefill_seconds": self.prefill.as_secs_f64(),
            "decode_seconds": self.decode.as_secs_f64(),
            "decode_tokens_per_second": self.rate(),
            "tokens_per_second": self.whole_rate(),
        })
    }
}

/// Both ways side by side, over an answer or many.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub questions: usize,
    pub plain: Side,
    pub speculative: Side,
    pub speculation: SpeculationStatistics,
    /// Places at which the answers differ.
    pub differing: usize,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.questions += other.questions;
        self.plain.add(&other.plain);
        self.speculative.add(&other.speculative);
        self.speculation.add(&other.speculation);
        self.differing += other.differing;
    }

    /// How much faster decoding is with speculation.
    pub fn speed_up(&self) -> f64 {
        ratio(self.speculative.rate(), self.plain.rate())
    }

    /// The same with the prompts' time counted.
    pub fn whole_speed_up(&self) -> f64 {
        ratio(self.speculative.whole_rate(), self.plain.whole_rate())
    }

    pub fn to_json(&self) -> Value {
        json!({
            "questions": self.questions,
            "plain": self.plain.to_json(),
            "speculative": self.speculative.to_json(),
            "speed_up": self.speed_up(),
            "whole_speed_up": self.whole_speed_up(),
            "accept_len": self.speculation.accept_len(),
            "differing_tokens": self.differing,
            "speculation": crate::speculation_report::to_json(&self.speculation),
        })
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// Places at which two answers hold different tokens, or only one holds any.
pub fn differing(a: &[u32], b: &[u32]) -> usize {
    let shared = a.iter().zip(b).filter(|(a, b)| a != b).count();
    shared + a.len().abs_diff(b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_by_place() {
        assert_eq!(differing(&[1, 2, 3], &[1, 2, 3]), 0);
        assert_eq!(differing(&[1, 2, 3], &[1, 5, 3]), 1);
        assert_eq!(differing(&[1, 2], &[2, 2, 7, 7]), 3);
    }

    #[test]
    fn speed_up_is_that_of_the_sums() {
        let side = |decoded, seconds| Side {
            tokens: decoded + 1,
            decoded,
            prefill: Duration::from_secs(1),
            decode: Duration::from_secs(seconds),
        };
        let tally = |plain, speculative| Tally {
            questions: 1,
            plain,
            speculative,
            ..Tally::default()
        };
        let mut sum = tally(side(10, 10), side(10, 5));
        assert_eq!(sum.speed_up(), 2.0);
        sum.add(&tally(side(90, 10), side(90, 15)));
        assert_eq!(sum.questions, 2);
        assert_eq!(sum.plain.rate(), 5.0);
        assert_eq!(sum.speed_up(), 1.0);
        assert_eq!(sum.plain.whole_rate(), 102.0 / 22.0);
        assert_eq!(Tally::default().speed_up(), 0.0);
    }
}
