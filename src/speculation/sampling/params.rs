use crate::{Error, Result};

/// How the next token is chosen. Filters run in the order of the fields' stages: penalties, bias, mask,
/// temperature, top-k, top-p, min-p; each is defined on what the former leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Keeps this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens whose probabilities add up to this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this times as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits, multiplies the others, of tokens in prompt or output; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from logits of tokens in the output; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted for each time that a token is in the output; 0 is off.
    pub frequency_penalty: f32,
    /// Penalties see this many last tokens; -1 is the whole context, 0 none.
    pub penalty_last_n: i32,
    /// (token, what is added to its logit); -inf forbids a token. Entries of one token add up in order.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same tokens.
    pub seed: u64,
}

impl Default for SamplingParams {
    /// The model's own distribution: temperature 1, every filter off, seed 0.
    fn default() -> Self {
        SamplingParams {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_last_n: -1,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl SamplingParams {
    /// The most likely token, always.
    pub fn greedy() -> Self {
        SamplingParams {
            temperature: 0.0,
            ..SamplingParams::default()
        }
    }

    /// Whether chance has no part in the choice.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    /// Whether any penalty is on.
    pub fn has_penalties(&self) -> bool {
        self.penalty_last_n != 0
            && (self.repetition_penalty != 1.0
                || self.presence_penalty != 0.0
                || self.frequency_penalty != 0.0)
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// If one is out of it, or a token of the bias is not in the vocabulary.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        let ranges = [
            (
                "temperature",
                self.temperature,
                0.0..=f32::MAX,
                "at least 0",
            ),
            (
                "top_p",
                self.top_p,
                f32::MIN_POSITIVE..=1.0,
                "above 0 and at most 1",
            ),
            ("min_p", self.min_p, 0.0..=1.0, "between 0 and 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                f32::MIN_POSITIVE..=f32::MAX,
                "above 0",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                f32::MIN..=f32::MAX,
                "a finite number",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                f32::MIN..=f32::MAX,
                "a finite number",
            ),
        ];
        for (name, value, range, words) in ranges {
            if !range.contains(&value) {
                return Err(Error::Invalid(format!(
                    "{name} is {value}; it must be {words}"
                )));
            }
        }
        if self.penalty_last_n < -1 {
            return Err(Error::Invalid(format!(
                "penalty_last_n is {}; it must be -1 (the whole context) or more",
                self.penalty_last_n
            )));
        }
        for &(token, bias) in &self.logit_bias {
            if token as usize >= vocab_size {
                return Err(Error::Invalid(format!(
                    "logit_bias names token {token}; the vocabulary has {vocab_size}"
                )));
            }
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(Error::Invalid(format!(
                    "logit_bias of token {token} is {bias}; it must be finite, or -inf"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_wrong() {
        let message = |change: fn(&mut SamplingParams)| {
            let mut params = SamplingParams::default();
            change(&mut params);
            params.validate(10).unwrap_err().to_string()
        };
        assert_eq!(
            message(|p| p.temperature = -1.0),
            "temperature is -1; it must be at least 0"
        );
        assert!(message(|p| p.temperature = f32::NAN).starts_with("temperature is NaN"));
        assert!(message(|p| p.temperature = f32::INFINITY).starts_with("temperature is inf"));
        assert!(message(|p| p.top_p = 0.0).starts_with("top_p is 0"));
        assert!(message(|p| p.top_p = 1.1).starts_with("top_p is 1.1"));
        assert!(message(|p| p.min_p = f32::NAN).starts_with("min_p"));
        assert!(message(|p| p.repetition_penalty = 0.0).starts_with("repetition_penalty"));
        assert!(message(|p| p.presence_penalty = f32::INFINITY).starts_with("presence_penalty"));
        assert!(message(|p| p.frequency_penalty = f32::NAN).starts_with("frequency_penalty"));
        assert!(message(|p| p.penalty_last_n = -2).starts_with("penalty_last_n"));
        assert!(message(|p| p.logit_bias.push((10, 1.0))).contains("token 10"));
        assert!(message(|p| p.logit_bias.push((1, f32::NAN))).contains("NaN"));
        SamplingParams::greedy().validate(1).unwrap();
        let forbid = SamplingParams {
            logit_bias: vec![(0, f32::NEG_INFINITY)],
            ..Default::default()
        };
        forbid.validate(1).unwrap();
    }
}
