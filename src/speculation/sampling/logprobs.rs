use super::math;
use super::nucleus::fixed_point;
use std::cmp::Reverse;

/// A token and the logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Log probabilities of one position under the model's own distribution: log-softmax of the logits before
/// penalties, bias, mask, temperature and filters, as OpenAI's API and llama.cpp report them.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// The token asked for.
    pub chosen: TokenLogprob,
    /// The most likely tokens, most likely first, equal ones by id.
    pub top: Vec<TokenLogprob>,
}

impl Logprobs {
    /// Of `chosen` and of the `n` most likely tokens. NaN logits count as -inf; a token past the vocabulary
    /// has -inf.
    ///
    /// The sum of exponentials is taken in fixed point, so no order of summation can change a bit of it.
    pub fn new(logits: &[f32], chosen: u32, n: usize) -> Self {
        let max = math::wide(
            #[inline(always)]
            || {
                logits
                    .iter()
                    .fold(f32::NEG_INFINITY, |max, &l| if l > max { l } else { max })
            },
        );
        let max = max.min(f32::MAX);
        let mut sum = 0u64;
        math::wide(
            #[inline(always)]
            || {
                let mut weights = [0.0; 64];
                for logits in logits.chunks(64) {
                    for (weight, &logit) in weights.iter_mut().zip(logits) {
                        *weight = math::exp(finite(logit) - max);
                    }
                    for &weight in &weights[..logits.len()] {
                        sum = sum.saturating_add(fixed_point(weight));
                    }
                }
            },
        );
        // The sum is at least 2^40, the weight of the largest, unless there is no logit at all.
        let log_sum = math::log(sum as f32 / fixed_point(1.0) as f32);
        let of = |token: u32| {
            let logit = logits
                .get(token as usize)
                .map_or(f32::NEG_INFINITY, |&l| finite(l));
            let logprob = if logit == f32::NEG_INFINITY {
                logit
            } else {
                (logit - max) - log_sum
            };
            TokenLogprob { token, logprob }
        };
        let top = best(logits, n).into_iter().map(of).collect();
        Logprobs {
            chosen: of(chosen),
            top,
        }
    }
}

/// The `n` tokens of the largest logits, the largest first, equal ones by id.
pub(super) fn best(logits: &[f32], n: usize) -> Vec<u32> {
    let n = n.min(logits.len());
    let mut order: Vec<(Reverse<u32>, u32)> = Vec::new();
    if n > 0 {
        let keys = logits.iter().map(|&l| Reverse(ordered(finite(l))));
        order.extend(keys.zip(0..));
        if n < order.len() {
            order.select_nth_unstable(n - 1);
            order.truncate(n);
        }
        order.sort_unstable();
    }
    order.into_iter().map(|(_, token)| token).collect()
}

/// NaN as -inf, inf as the largest number.
#[inline(always)]
pub(super) fn finite(logit: f32) -> f32 {
    let logit = if logit.is_nan() {
        f32::NEG_INFINITY
    } else {
        logit
    };
    if logit > f32::MAX { f32::MAX } else { logit }
}

/// A number that orders as the float does; both zeros are equal.
#[inline(always)]
pub(super) fn ordered(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_f64(logits in prop::collection::vec(-30.0f32..30.0, 1..300), n in 0usize..400) {
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
            let logprobs = Logprobs::new(&logits, 0, n);
            prop_assert_eq!(logprobs.top.len(), n.min(logits.len()));
            for entry in logprobs.top.iter().chain([&logprobs.chosen]) {
                let exact = f64::from(logits[entry.token as usize] - max) - sum.ln();
                prop_assert!((f64::from(entry.logprob) - exact).abs() < 1e-5);
            }
            prop_assert!(logprobs.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
            // Any order of the same logits gives the same sum.
            let reversed: Vec<f32> = logits.iter().rev().copied().collect();
            let last = logits.len() as u32 - 1;
            prop_assert_eq!(Logprobs::new(&reversed, last, 0).chosen.logprob, logprobs.chosen.logprob);
        }
    }

    #[test]
    fn strange_logits() {
        let logits = [f32::NAN, 1.0, f32::NEG_INFINITY, 1.0];
        let logprobs = Logprobs::new(&logits, 0, 4);
        assert_eq!(logprobs.chosen.logprob, f32::NEG_INFINITY);
        assert_eq!(
            logprobs.top.iter().map(|t| t.token).collect::<Vec<_>>(),
            [1, 3, 0, 2]
        );
        assert_eq!(
            Logprobs::new(&[f32::INFINITY, 0.0], 0, 0).chosen.logprob,
            0.0
        );
        assert!(Logprobs::new(&[], 0, 5).top.is_empty());
    }
}
