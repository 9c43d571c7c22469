//! Top-k, top-p and min-p over scores relative to the largest (which is 0), without a sort of the vocabulary.
//!
//! Tokens fall into buckets by score; integer counts and integer sums of fixed-point weights find the bucket in
//! which a threshold lies, and only that bucket is ordered. Integers add up to the same in any order.

use super::{logprobs::ordered, math};

/// Buckets a nat.
const RESOLUTION: f32 = 64.0;
/// 32 nats: what is further below the largest has weight 0 in fixed point.
const BUCKETS: usize = 2048;

/// A weight in [0, 1] in steps of 2^-40, cut: the sum of up to 2^23 of them fits a u64.
#[inline(always)]
pub(super) fn fixed_point(weight: f32) -> u64 {
    (weight * (1u64 << 40) as f32) as i64 as u64
}

/// A token that is still in the running.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Orders by logit, largest first, then by token.
    order: u64,
    /// (logit - largest logit) / temperature.
    pub score: f32,
}

impl Candidate {
    /// `logit` is what the score was made of: distinct logits may have equal scores after rounding.
    #[inline(always)]
    fn new(token: usize, logit: f32, score: f32) -> Self {
        let order = u64::from(!ordered(logit)) << 32 | token as u64;
        Candidate { order, score }
    }

    pub fn token(self) -> u32 {
        self.order as u32
    }
}

#[inline(always)]
fn bucket(score: f32) -> usize {
    ((score * -RESOLUTION) as usize).min(BUCKETS - 1)
}

/// The share of `total` that top-p must reach: ceil(p * total), p in steps of 2^-32.
fn share(top_p: f32, total: u64) -> u64 {
    let p = (f64::from(top_p) * 2f64.powi(32)).ceil() as u128;
    (p * u128::from(total)).div_ceil(1 << 32) as u64
}

/// Every token whose score is not -inf, in order of tokens.
pub(super) fn collect(logits: &[f32], scores: &[f32], kept: &mut Vec<Candidate>) {
    gather(logits, scores, BUCKETS, kept);
}

/// The tokens whose bucket is at most `last`, in order of tokens.
fn gather(logits: &[f32], scores: &[f32], last: usize, kept: &mut Vec<Candidate>) {
    kept.clear();
    for (token, (&logit, &score)) in logits.iter().zip(scores).enumerate() {
        if score > f32::NEG_INFINITY && bucket(score) <= last {
            kept.push(Candidate::new(token, logit, score));
        }
    }
}

/// The `k` best of all tokens; `k` is at least 1.
pub(super) fn top_k(logits: &[f32], scores: &[f32], k: usize, kept: &mut Vec<Candidate>) {
    let mut counts = [0u32; BUCKETS];
    for &score in scores {
        counts[bucket(score)] += u32::from(score > f32::NEG_INFINITY);
    }
    let mut count = 0;
    let last = counts.iter().position(|&c| {
        count += c as usize;
        count >= k
    });
    gather(logits, scores, last.unwrap_or(BUCKETS), kept);
    if kept.len() > k {
        kept.select_nth_unstable_by_key(k - 1, |candidate| candidate.order);
        kept.truncate(k);
    }
}

/// The nucleus of all tokens. `weights` is room for exp(score).
pub(super) fn top_p(
    logits: &[f32],
    scores: &[f32],
    top_p: f32,
    weights: &mut Vec<f32>,
    kept: &mut Vec<Candidate>,
) {
    weights.clear();
    math::wide(
        #[inline(always)]
        || weights.extend(scores.iter().map(|&score| math::exp(score))),
    );
    let mut sums = [0u64; BUCKETS];
    for (&score, &weight) in scores.iter().zip(weights.iter()) {
        sums[bucket(score)] += fixed_point(weight);
    }
    let target = share(top_p, sums.iter().sum());
    let mut before = 0;
    let last = sums.iter().position(|&sum| {
        let reached = before + sum >= target;
        if !reached {
            before += sum;
        }
        reached
    });
    let last = last.unwrap_or(BUCKETS);
    gather(logits, scores, last, kept);
    // Better buckets to the front; the last one is ordered and cut.
    let mut inner = 0;
    for index in 0..kept.len() {
        if bucket(kept[index].score) < last {
            kept.swap(inner, index);
            inner += 1;
        }
    }
    let cut = cut(&mut kept[inner..], before, target);
    kept.truncate(inner + cut);
}

/// The nucleus of the candidates.
pub(super) fn top_p_of(kept: &mut Vec<Candidate>, top_p: f32) {
    let total = kept
        .iter()
        .map(|candidate| fixed_point(math::exp(candidate.score)))
        .sum();
    let cut = cut(kept, 0, share(top_p, total));
    kept.truncate(cut);
}

/// Orders candidates and returns how many it takes from `sum` to `target`, at least 1 of them.
fn cut(candidates: &mut [Candidate], mut sum: u64, target: u64) -> usize {
    candidates.sort_unstable_by_key(|candidate| candidate.order);
    let reached = candidates.iter().position(|candidate| {
        sum += fixed_point(math::exp(candidate.score));
        sum >= target
    });
    reached.map_or(candidates.len(), |index| index + 1)
}

/// Drops candidates less than `min_p` times as likely as the best, which always stays: its score is 0.
pub(super) fn min_p(kept: &mut Vec<Candidate>, min_p: f32) {
    kept.retain(|candidate| math::exp(candidate.score) >= min_p);
}
