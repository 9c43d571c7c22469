use super::logprobs::finite;
use super::nucleus::{self, Candidate};
use super::{SamplingParams, TokenCounts, TokenMask, math, philox};
use crate::{Error, Result};

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// How many tokens the filters left to choose from; 1 for greedy choices.
    pub kept: usize,
}

/// Chooses tokens: a pure function of logits, counts, mask, position and parameters. Holds only scratch.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    vocab_size: usize,
    /// Logits after penalties, bias and mask, [vocab_size].
    logits: Vec<f32>,
    /// (logit - largest logit) / temperature, [vocab_size]; -inf for tokens out of the running.
    scores: Vec<f32>,
    weights: Vec<f32>,
    kept: Vec<Candidate>,
}

impl Sampler {
    /// Checks the parameters.
    ///
    /// # Errors
    /// If one is out of range.
    pub fn new(params: SamplingParams, vocab_size: usize) -> Result<Self> {
        params.validate(vocab_size)?;
        let (logits, scores, weights, kept) = Default::default();
        Ok(Sampler {
            params,
            vocab_size,
            logits,
            scores,
            weights,
            kept,
        })
    }

    /// The parameters.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Chooses the token at `position`, the one that follows the row of `logits`, which has vocab_size elements.
    ///
    /// Filters run in the order penalties (by `counts`, ancestors of a tree's node among them), bias, mask,
    /// temperature, top-k, top-p, min-p. Then the largest score plus Gumbel noise of (seed, position, token)
    /// wins, which samples the filtered distribution. Equal logits, and equal sums, go to the smaller id.
    /// NaN is never chosen; infinity counts as the largest number.
    ///
    /// # Errors
    /// If the number of logits or the mask does not fit the vocabulary, or no token is left.
    pub fn choose(
        &mut self,
        logits: &[f32],
        position: u32,
        counts: &TokenCounts,
        mask: Option<&TokenMask>,
    ) -> Result<Choice> {
        let largest = self.adjust(logits, counts, mask)?;
        if self.params.is_greedy() {
            let token = self.first(largest);
            return Ok(Choice { token, kept: 1 });
        }
        self.score(largest);
        Ok(self.draw(position))
    }

    /// The distribution that [`Sampler::choose`] samples, `[vocab_size]`: after penalties, bias, mask, temperature and
    /// filters. f32; the sum is 1 up to rounding, and tokens that are filtered out have exactly 0. A greedy choice
    /// is certain: its token has 1.
    ///
    /// # Errors
    /// As [`Sampler::choose`].
    pub fn probabilities(
        &mut self,
        logits: &[f32],
        counts: &TokenCounts,
        mask: Option<&TokenMask>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let largest = self.adjust(logits, counts, mask)?;
        out.clear();
        out.resize(self.vocab_size, 0.0);
        if self.params.is_greedy() {
            out[self.first(largest) as usize] = 1.0;
            return Ok(());
        }
        self.score(largest);
        if self.filter() {
            for candidate in &self.kept {
                out[candidate.token() as usize] = math::exp(candidate.score);
            }
        } else {
            let scores = &self.scores;
            math::wide(
                #[inline(always)]
                || {
                    for (weight, &score) in out.iter_mut().zip(scores) {
                        *weight = math::exp(score);
                    }
                },
            );
        }
        // In fixed point, so that no order of summation can change a bit. The largest weight is 1.
        let sum: u64 = out.iter().map(|&weight| nucleus::fixed_point(weight)).sum();
        let sum = sum as f32 / nucleus::fixed_point(1.0) as f32;
        out.iter_mut().for_each(|weight| *weight /= sum);
        Ok(())
    }

    /// Fills the logits with what is left of them after penalties, bias and mask, and returns the largest.
    fn adjust(
        &mut self,
        logits: &[f32],
        counts: &TokenCounts,
        mask: Option<&TokenMask>,
    ) -> Result<f32> {
        if logits.len() != self.vocab_size {
            return Err(Error::Invalid(format!(
                "{} logits for a vocabulary of {} tokens",
                logits.len(),
                self.vocab_size
            )));
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        counts.apply(&self.params, &mut self.logits);
        for &(token, bias) in &self.params.logit_bias {
            self.logits[token as usize] += bias;
        }
        if let Some(mask) = mask {
            mask.apply(&mut self.logits)?;
        }
        let largest = largest(&mut self.logits);
        if largest == f32::NEG_INFINITY {
            return Err(Error::Invalid(
                "no token can be chosen: mask and bias forbid all, or the logits are not numbers"
                    .into(),
            ));
        }
        Ok(largest)
    }

    /// The first token with this logit.
    fn first(&self, logit: f32) -> u32 {
        let first = self.logits.iter().position(|&other| other == logit);
        first.unwrap_or(0) as u32
    }

    /// Fills the scores.
    fn score(&mut self, largest: f32) {
        let temperature = self.params.temperature;
        let (logits, scores) = (&self.logits, &mut self.scores);
        scores.clear();
        math::wide(
            #[inline(always)]
            || {
                scores.extend(logits.iter().map(|&logit| {
                    // Subtracting first keeps a small temperature from making ties of overflow.
                    let score = (logit - largest) / temperature;
                    let score = if score < f32::MIN { f32::MIN } else { score };
                    if logit == f32::NEG_INFINITY {
                        logit
                    } else {
                        score
                    }
                }));
            },
        );
    }

    /// Fills the candidates with what the filters keep. False: there is no filter, all scores stay.
    fn filter(&mut self) -> bool {
        let &mut Sampler {
            ref params,
            ref logits,
            ref scores,
            ref mut weights,
            ref mut kept,
            ..
        } = self;
        let cuts_k = params.top_k > 0 && params.top_k < scores.len();
        let cuts_p = params.top_p < 1.0;
        if !cuts_k && !cuts_p && params.min_p == 0.0 {
            return false;
        }
        match (cuts_k, cuts_p) {
            (true, _) => nucleus::top_k(logits, scores, params.top_k, kept),
            (false, true) => nucleus::top_p(logits, scores, params.top_p, weights, kept),
            (false, false) => nucleus::min_p(logits, scores, params.min_p, kept),
        }
        if cuts_k && cuts_p {
            nucleus::top_p_of(kept, params.top_p);
        }
        if params.min_p > 0.0 && (cuts_k || cuts_p) {
            nucleus::min_p_of(kept, params.min_p);
        }
        true
    }

    /// Filters the scores and takes the largest with noise.
    fn draw(&mut self, position: u32) -> Choice {
        let filtered = self.filter();
        let &mut Sampler {
            ref params,
            ref mut scores,
            ref kept,
            ..
        } = self;
        if !filtered {
            let kept = scores
                .iter()
                .filter(|&&score| score > f32::NEG_INFINITY)
                .count();
            return Choice {
                token: noisy_best(scores, params.seed, position),
                kept,
            };
        }
        // Noise for a whole row in vectors costs less than for an eighth of it token by token.
        if kept.len() > scores.len() / 8 {
            scores.fill(f32::NEG_INFINITY);
            for candidate in kept.iter() {
                scores[candidate.token() as usize] = candidate.score;
            }
            return Choice {
                token: noisy_best(scores, params.seed, position),
                kept: kept.len(),
            };
        }
        // Candidates are in no particular order: the id decides between equals.
        let mut best = (f32::NEG_INFINITY, u32::MAX);
        for candidate in kept.iter() {
            let token = candidate.token();
            let score = candidate.score + philox::gumbel(params.seed, position, token);
            if score > best.0 || score == best.0 && token < best.1 {
                best = (score, token);
            }
        }
        Choice {
            token: best.1,
            kept: kept.len(),
        }
    }
}

/// The token with the largest score plus noise, the smaller of equals.
fn noisy_best(scores: &mut [f32], seed: u64, position: u32) -> u32 {
    philox::add_gumbel(seed, position, scores);
    let best = largest(scores);
    scores.iter().position(|&score| score == best).unwrap_or(0) as u32
}

/// The largest of the logits, after NaN became -inf and infinity the largest number.
fn largest(logits: &mut [f32]) -> f32 {
    math::wide(
        #[inline(always)]
        || {
            // Lanes of their own: a single running maximum would be one long chain.
            let mut lanes = [f32::NEG_INFINITY; 32];
            for logits in logits.chunks_mut(32) {
                for (lane, logit) in lanes.iter_mut().zip(logits) {
                    *logit = finite(*logit);
                    *lane = if *logit > *lane { *logit } else { *lane };
                }
            }
            lanes
                .into_iter()
                .fold(f32::NEG_INFINITY, |max, l| if l > max { l } else { max })
        },
    )
}
