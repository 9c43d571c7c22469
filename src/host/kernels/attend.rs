//! Inner loops of attention. Queries share each load of K and V; every score and every output is a sum in one
//! fixed order, so which queries are processed together never shows.

use super::widen::Element;
use super::{Isa, LANES, sum_lanes};
use crate::speculation::sampling::math::exp;

/// Whether sums of four blocks of 16 lanes for `queries` queries fit the registers.
#[inline(always)]
fn fits_four(isa: Isa, queries: usize) -> bool {
    isa.has_32_vectors() || queries == 1
}

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
    mut scores: [&mut [f32]; G],
) {
    let end = count.next_multiple_of(LANES);
    let mut start = 0;
    let keys = Keys { isa, k, stride };
    if fits_four(isa, G) {
        while start + 4 * LANES <= end {
            keys.score::<G, 4>(q, start, scale, &mut scores);
            start += 4 * LANES;
        }
        if start + 2 * LANES <= end {
            keys.score::<G, 2>(q, start, scale, &mut scores);
            start += 2 * LANES;
        }
    }
    while start < end {
        keys.score::<G, 1>(q, start, scale, &mut scores);
        start += LANES;
    }
}

/// K, as [`scores`] has it.
struct Keys<'k, E> {
    isa: Isa,
    k: &'k [E],
    stride: usize,
}

impl<E: Element> Keys<'_, E> {
    /// The scores of B blocks of 16 positions from `start` on. Each is one chain of dependent sums: several side by side keep the
    /// processor busy while one waits for itself.
    #[inline(always)]
    fn score<const G: usize, const B: usize>(
        &self,
        q: [&[f32]; G],
        start: usize,
        scale: f32,
        scores: &mut [&mut [f32]; G],
    ) {
        let mut acc = [[[0f32; LANES]; B]; G];
        for d in 0..q[0].len() {
            let k = &self.k[d * self.stride + start..][..B * LANES];
            for (b, k) in k.as_chunks().0.iter().enumerate() {
                let wide = E::widen_lanes(self.isa, k);
                for g in 0..G {
                    let q = q[g][d];
                    for lane in 0..LANES {
                        acc[g][b][lane] = wide[lane].mul_add(q, acc[g][b][lane]);
                    }
                }
            }
        }
        for g in 0..G {
            let out = &mut scores[g][start..][..B * LANES];
            for (out, acc) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(&acc[g]) {
                for lane in 0..LANES {
                    out[lane] = acc[lane] * scale;
                }
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
    mut out: [&mut [f32]; G],
) {
    let head_dim = out[0].len();
    let whole = head_dim / LANES * LANES;
    let mut start = 0;
    if fits_four(isa, G) {
        while start + 4 * LANES <= whole {
            accumulate_blocks::<E, G, 4>(isa, weights, &v, start, &mut out);
            start += 4 * LANES;
        }
        if start + 2 * LANES <= whole {
            accumulate_blocks::<E, G, 2>(isa, weights, &v, start, &mut out);
            start += 2 * LANES;
        }
    }
    while start < whole {
        accumulate_blocks::<E, G, 1>(isa, weights, &v, start, &mut out);
        start += LANES;
    }
    for d in whole..head_dim {
        for g in 0..G {
            for p in 0..weights[0].len() {
                out[g][d] = v(p)[d].widen().mul_add(weights[g][p], out[g][d]);
            }
        }
    }
}

/// B blocks of 16 columns from `start` on; see [`Keys::score`].
#[inline(always)]
fn accumulate_blocks<'v, E: Element, const G: usize, const B: usize>(
    isa: Isa,
    weights: [&[f32]; G],
    v: &impl Fn(usize) -> &'v [E],
    start: usize,
    out: &mut [&mut [f32]; G],
) {
    let mut acc = [[[0f32; LANES]; B]; G];
    for g in 0..G {
        acc[g]
            .as_flattened_mut()
            .copy_from_slice(&out[g][start..][..B * LANES]);
    }
    for p in 0..weights[0].len() {
        let v = &v(p)[start..][..B * LANES];
        for (b, v) in v.as_chunks().0.iter().enumerate() {
            let wide = E::widen_lanes(isa, v);
            for g in 0..G {
                let weight = weights[g][p];
                for lane in 0..LANES {
                    acc[g][b][lane] = wide[lane].mul_add(weight, acc[g][b][lane]);
                }
            }
        }
    }
    for g in 0..G {
        out[g][start..][..B * LANES].copy_from_slice(acc[g].as_flattened());
    }
}
