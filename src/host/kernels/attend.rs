//! Inner loops of attention. Queries share each load of K and V; every score and every output is a sum in one
//! fixed order, so which queries are processed together never shows.

use super::widen::Element;
use super::{Isa, LANES, sum_lanes};
use crate::speculation::sampling::math::exp;

/// `scores[g][p] = scale * sum_d q[g][d] K[d][p]`, summed in order of d, for p in 0..count.
///
/// `k` is [head_dim][stride], K transposed; `scores[g]` has at least `count` rounded up to 16 elements and so has
/// a row of `k`.
#[inline(always)]
pub fn scores<E: Element, const G: usize>(
    isa: Isa,
    q: [&[f32]; G],
    k: &[E],
    stride: usize,
    count: usize,
    scale: f32,
    scores: [&mut [f32]; G],
) {
    for start in (0..count).step_by(LANES) {
        let mut acc = [[0f32; LANES]; G];
        for d in 0..q[0].len() {
            let k = k[d * stride + start..].first_chunk();
            let k = k.expect("rows of K are whole lanes");
            let wide = E::widen_lanes(isa, k);
            for g in 0..G {
                let q = q[g][d];
                for lane in 0..LANES {
                    acc[g][lane] = wide[lane].mul_add(q, acc[g][lane]);
                }
            }
        }
        for g in 0..G {
            let out = &mut scores[g][start..][..LANES];
            for lane in 0..LANES {
                out[lane] = acc[g][lane] * scale;
            }
        }
    }
}

/// Turns scores into `exp(score - max)`, and gives the reciprocal of their sum (16 lanes by absolute position:
/// `first` is the position of `scores[0]`).
#[inline(always)]
pub fn softmax(scores: &mut [f32], first: usize) -> f32 {
    let mut max = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            max[lane] = if chunk[lane] > max[lane] {
                chunk[lane]
            } else {
                max[lane]
            };
        }
    }
    let max = max
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    for score in scores.iter_mut() {
        *score = exp(*score - max);
    }
    // The lane of a position must not depend on where the window starts, so begin at a multiple of 16.
    let mut acc = [0f32; LANES];
    let head = (LANES - first % LANES) % LANES;
    let (head, body) = scores.split_at(head.min(scores.len()));
    for (i, score) in head.iter().enumerate() {
        acc[(first + i) % LANES] += score;
    }
    let (chunks, rest) = body.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            acc[lane] += chunk[lane];
        }
    }
    for (acc, score) in acc.iter_mut().zip(rest) {
        *acc += score;
    }
    1.0 / sum_lanes(acc)
}

/// `out[g][d] += sum_p weights[g][p] V[p][d]`, in order of p. `v(p)` is the row [head_dim] of V at p.
#[inline(always)]
pub fn accumulate<'v, E: Element, const G: usize>(
    isa: Isa,
    weights: [&[f32]; G],
    v: impl Fn(usize) -> &'v [E],
    out: [&mut [f32]; G],
) {
    let head_dim = out[0].len();
    let whole = head_dim / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let mut acc = [[0f32; LANES]; G];
        for g in 0..G {
            acc[g].copy_from_slice(&out[g][start..][..LANES]);
        }
        for p in 0..weights[0].len() {
            let v = v(p)[start..].first_chunk().expect("`start` leaves 16");
            let wide = E::widen_lanes(isa, v);
            for g in 0..G {
                let weight = weights[g][p];
                for lane in 0..LANES {
                    acc[g][lane] = wide[lane].mul_add(weight, acc[g][lane]);
                }
            }
        }
        for g in 0..G {
            out[g][start..][..LANES].copy_from_slice(&acc[g]);
        }
    }
    for d in whole..head_dim {
        for g in 0..G {
            for p in 0..weights[0].len() {
                out[g][d] = v(p)[d].widen().mul_add(weights[g][p], out[g][d]);
            }
        }
    }
}
