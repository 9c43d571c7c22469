use crate::speculation::sampling::{math, philox};
use crate::{Error, Result};
use std::cmp::Reverse;

/// What became of the children of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Child number i is accepted: its token is emitted, and the walk goes on there.
    Child(usize),
    /// No child is accepted: this token is emitted, and the walk ends.
    Residual(u32),
}

/// Draws the children of a node without replacement from a draft's distribution, in the order in which [`verify`] is
/// to see them: the largest sums of ln q and Gumbel noise, which is sampling without replacement (Kool et al., 2019).
///
/// `q` are the draft's probabilities over the target's vocabulary, up to a common factor; `position` is where the
/// children stand in the sequence, `node` the index of their parent in its tree. Noise comes from Philox's stream
/// [`philox::DRAFT`]. A later round may draw again for a node that no round decided on; nothing was emitted by it.
///
/// The result is (token, its probability given that the earlier ones are taken); tokens without
/// probability are not drawn, so there may be fewer than `count`.
pub fn draw_children(
    q: &[f32],
    count: usize,
    seed: u64,
    position: u32,
    node: u32,
) -> Vec<(u32, f32)> {
    let mut keys: Vec<f32> = Vec::with_capacity(q.len());
    math::wide(
        #[inline(always)]
        || keys.extend(q.iter().map(|&q| math::log(q))),
    );
    philox::add_draft_gumbel(seed, position, node, &mut keys);
    // NaN and -inf are no candidates. Equal sums go to the smaller id.
    let candidates = (0u32..)
        .zip(keys)
        .filter(|(_, key)| *key > f32::NEG_INFINITY);
    let mut order: Vec<(Reverse<Ordered>, u32)> = candidates
        .map(|(token, key)| (Reverse(Ordered(key)), token))
        .collect();
    if count < order.len() {
        order.select_nth_unstable(count);
        order.truncate(count);
    }
    order.sort_unstable();
    let mut left = sum(q);
    let drawn = order.into_iter().map(|(_, token)| {
        let probability = f64::from(q[token as usize]);
        left = left.max(probability);
        let effective = (probability / left) as f32;
        left -= probability;
        (token, effective)
    });
    drawn.collect()
}

/// f32 in its total order.
#[derive(Debug, Clone, Copy)]
struct Ordered(f32);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Exact rejection sampling of one node of a sampled draft: a chain (Leviathan et al., 2023) or a tree whose children
/// were drawn without replacement (EAGLE-1; SpecInfer, Miao et al., 2024).
///
/// Child x is accepted with probability min(1, p(x) / q(x)); if it is not, p becomes norm(max(0, p - q)), and q loses x
/// and is normalised again. If all are rejected, the token is drawn from what is left of p; without children, from p
/// itself. Over the draws of children and of this function the token is distributed as p, exactly.
///
/// - `p`: the target's probabilities after all filters ([`crate::speculation::sampling::Sampler::probabilities`]),
///   `[vocab_size]`, sum 1. Afterwards what is left of them.
/// - `q`: exactly what [`draw_children`] was given. Any draft will do, at any temperature and with any filters of its
///   own: they change how often it is accepted, not what is emitted.
/// - `children`: the tokens that it drew, all of them, in its order.
/// - `position`: where the children stand. Decisions come from Philox's stream [`philox::ACCEPTANCE`], and the residual
///   token from the noise by which a plain choice at that position is made.
///
/// # Errors
/// If p and q differ in length or hold what is no probability, p has no weight, or a child is past the vocabulary, there
/// twice, or one that the draft cannot draw.
pub fn verify(
    p: &mut [f32],
    q: &[f32],
    children: &[u32],
    seed: u64,
    position: u32,
) -> Result<Verdict> {
    check(p, q, children)?;
    let mut left = sum(q);
    for (index, &child) in children.iter().enumerate() {
        let uniform = philox::acceptance_uniform(seed, position, index as u32);
        let probability = f64::from(q[child as usize]);
        // At least the child is left, whatever rounding says.
        left = left.max(probability);
        // A child with p(x) >= q(x) always passes: no uniform number is 1.
        let passes = uniform * ((probability / left) as f32) < p[child as usize];
        if passes || !reject(p, q, child, left) {
            return Ok(Verdict::Child(index));
        }
        left -= probability;
    }
    let mut keys: Vec<f32> = Vec::with_capacity(p.len());
    math::wide(
        #[inline(always)]
        || keys.extend(p.iter().map(|&p| math::log(p))),
    );
    philox::add_gumbel(seed, position, &mut keys);
    let best = (0u32..)
        .zip(keys)
        .reduce(|best, other| if other.1 > best.1 { other } else { best });
    Ok(Verdict::Residual(best.map_or(0, |(token, _)| token)))
}

fn check(p: &[f32], q: &[f32], children: &[u32]) -> Result<()> {
    let fail = |reason: String| Err(Error::Invalid(reason));
    if p.len() != q.len() && !children.is_empty() {
        return fail(format!(
            "{} probabilities of a target met {} of a draft",
            p.len(),
            q.len()
        ));
    }
    let is_probability = |&value: &f32| (0.0..=f32::MAX).contains(&value);
    if !p.iter().all(is_probability) || !q.iter().all(is_probability) {
        return fail("probabilities of a target or a draft that are negative or no numbers".into());
    }
    if !p.iter().any(|&p| p > 0.0) {
        return fail("a target without a token of positive probability".into());
    }
    for (index, &child) in children.iter().enumerate() {
        if q.get(child as usize).is_none_or(|&q| q == 0.0) {
            return fail(format!(
                "child {index}, token {child}, is none that the draft can draw"
            ));
        }
        if children[..index].contains(&child) {
            return fail(format!("child {index} repeats token {child} of a sibling"));
        }
    }
    Ok(())
}

/// Turns p into norm(max(0, p - q / left)) after `child` was rejected. False: nothing else is left to emit.
///
/// Children rejected before have no part in q any more, and their p is 0 already, so subtracting their q changes
/// nothing.
fn reject(p: &mut [f32], q: &[f32], child: u32, left: f64) -> bool {
    let rest = |(token, (&p, &q)): (usize, (&f32, &f32))| {
        let rest = f64::from(p) - f64::from(q) / left;
        if token != child as usize && rest > 0.0 {
            rest
        } else {
            0.0
        }
    };
    let residual: f64 = p.iter().zip(q).enumerate().map(rest).sum();
    if residual > 0.0 {
        for (token, p) in p.iter_mut().enumerate() {
            *p = (rest((token, (p, &q[token]))) / residual) as f32;
        }
        return true;
    }
    // p and q are equal up to rounding: a rejection of probability 0. Any token of p but the child will do.
    let others = sum(p) - f64::from(p[child as usize]);
    if others <= 0.0 {
        return false;
    }
    p[child as usize] = 0.0;
    p.iter_mut()
        .for_each(|p| *p = (f64::from(*p) / others) as f32);
    true
}

/// The sum in f64, in an order of its own.
fn sum(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 16];
    for values in values.chunks(16) {
        for (lane, &value) in lanes.iter_mut().zip(values) {
            *lane += f64::from(value);
        }
    }
    lanes.into_iter().sum()
}

#[cfg(test)]
mod tests;
