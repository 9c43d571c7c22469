//! Work on one row: norms, 8-bit rounding, activations.

use super::{LANES, Q8Group, sum_lanes};
use crate::speculation::sampling::math::exp;
use stheno_codegen::plan::Activation;

/// Sum of squares in 16 lanes (lane = index mod 16), summed pairwise at the end.
#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    let mut acc = [0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            acc[lane] = chunk[lane].mul_add(chunk[lane], acc[lane]);
        }
    }
    for (acc, x) in acc.iter_mut().zip(rest) {
        *acc = x.mul_add(*x, *acc);
    }
    sum_lanes(acc)
}

/// `out = x / sqrt(mean(x^2) + eps) * weight`.
#[inline(always)]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mean = sum_of_squares(x) / x.len() as f32;
    let factor = 1.0 / (mean + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

/// [`rms_norm`] in place.
#[inline(always)]
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let mean = sum_of_squares(x) / x.len() as f32;
    let factor = 1.0 / (mean + eps).sqrt();
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * factor * weight;
    }
}

/// Rounds 32 elements to 8 bits, see `InputDtype::Q8`.
#[inline(always)]
pub fn quantize(x: &[f32; 32], group: &mut Q8Group) {
    // Magnitudes order as their bits do, and integers reduce in any order.
    let magnitudes = x.iter().map(|x| x.to_bits() & 0x7fff_ffff);
    let largest = f32::from_bits(magnitudes.fold(0, u32::max));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 127.0 / largest } else { 0.0 };
    // 1.5 * 2^23: adding it leaves the integer nearest to a small number (ties to even) in the low mantissa bits.
    const MAGIC: f32 = 12_582_912.0;
    let mut sums = [0i32; 2];
    for (half, sum) in sums.iter_mut().enumerate() {
        // Whole arrays at a time, so that it vectorises.
        let mut rounded = [0i32; LANES];
        for lane in 0..LANES {
            let sum = x[LANES * half + lane] * inverse + MAGIC;
            let q = sum.to_bits() as i32 - MAGIC.to_bits() as i32;
            rounded[lane] = q.clamp(-127, 127);
        }
        for lane in 0..LANES {
            group.quanta[LANES * half + lane] = rounded[lane] as i8;
        }
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                rounded[lane] += rounded[lane + width];
            }
            width /= 2;
        }
        *sum = rounded[0];
    }
    group.scale = scale;
    group.sum32 = scale * (sums[0] + sums[1]) as f32;
    group.sums16 = sums.map(|sum| scale * sum as f32);
    group.sums = sums.map(|sum| sum as i16);
}

/// `gate = activation(gate) * up`.
#[inline(always)]
pub fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Silu => {
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate = *gate / (1.0 + exp(-*gate)) * up;
            }
        }
        Activation::GeluTanh => {
            for (gate, up) in gate.iter_mut().zip(up) {
                // tanh(y) = 1 - 2 / (exp(2 y) + 1), with y = sqrt(2 / pi) (x + 0.044715 x^3).
                let x = *gate;
                let y = 0.797_884_6 * (x + 0.044_715 * x * x * x);
                let tanh = 1.0 - 2.0 / (exp(2.0 * y) + 1.0);
                *gate = 0.5 * x * (1.0 + tanh) * up;
            }
        }
    }
}

/// Rotates halves of a head: `(a, b) -> (a cos - b sin, b cos + a sin)` for a = head[i], b = head[i + n], n the
/// length of `cos` and `sin`.
#[inline(always)]
pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, b) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = x * cos - y * sin;
        *b = y * cos + x * sin;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantize_rounds_ties_to_even_and_keeps_the_largest() {
        let mut x = [0f32; 32];
        x[0] = -127.0;
        x[1] = 2.5;
        x[2] = 3.5;
        x[31] = 126.4;
        let mut group = Q8Group::default();
        quantize(&x, &mut group);
        let q = group.quanta;
        assert_eq!(
            (group.scale, q[0], q[1], q[2], q[31]),
            (1.0, -127, 2, 4, 126)
        );
        assert_eq!((group.sums, group.sum32), ([-121, 126], 5.0));
        quantize(&[0.0; 32], &mut group);
        assert_eq!(
            (group.scale, group.sums, group.quanta),
            (0.0, [0, 0], [0; 32])
        );
    }
}
