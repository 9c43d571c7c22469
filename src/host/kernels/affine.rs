//! Products of float rows with affine-quantized tiles.

use super::LANES;
use super::widen::{Element, F16};
use crate::checkpoint::{AffineMatrix, Offsets, Scales};

/// Products of the 16 outputs of `tile` with `M` rows of f32.
///
/// `x` and `sums` hold for each row its k elements and the sums of its groups (in order of k). Per output, over
/// groups in order from `acc = 0`, with `s` the sum of `fma(q, x, s)` in order of k:
/// `acc = fma(s, scale, acc)`, then `acc = fma(offset, group_sum, acc)`.
#[inline(always)]
pub fn tile<const M: usize>(
    w: &AffineMatrix,
    tile: usize,
    x: [&[f32]; M],
    sums: [&[f32]; M],
) -> [[f32; LANES]; M] {
    match (w.shape().bits, w.shape().group) {
        (4, 32) => groups::<4, 32, M>(w, tile, x, sums),
        (5, 32) => groups::<5, 32, M>(w, tile, x, sums),
        (6, 16) => groups::<6, 16, M>(w, tile, x, sums),
        (8, 32) => groups::<8, 32, M>(w, tile, x, sums),
        (4, _) => groups::<4, 16, M>(w, tile, x, sums),
        (5, _) => groups::<5, 16, M>(w, tile, x, sums),
        (6, _) => groups::<6, 32, M>(w, tile, x, sums),
        (_, _) => groups::<8, 16, M>(w, tile, x, sums),
    }
}

#[inline(always)]
fn groups<const BITS: u32, const GROUP: usize, const M: usize>(
    w: &AffineMatrix,
    tile: usize,
    x: [&[f32]; M],
    sums: [&[f32]; M],
) -> [[f32; LANES]; M] {
    let k = w.shape().k;
    let mut acc = [[0f32; LANES]; M];
    for group in 0..k / GROUP {
        let mut s = [[0f32; LANES]; M];
        for quad in 0..GROUP / 4 {
            let start = group * GROUP + 4 * quad;
            let words = quad_words::<BITS>(w, tile, start);
            for byte in 0..4 {
                let q = words.map(|word| (word >> (8 * byte) & 255) as i32 as f32);
                for m in 0..M {
                    let x = x[m][start + byte];
                    for lane in 0..LANES {
                        s[m][lane] = q[lane].mul_add(x, s[m][lane]);
                    }
                }
            }
        }
        let scale = tile_scales(w, w.scales(), tile, group);
        let offset = match w.offsets() {
            Offsets::Zero(zero) => scale.map(|scale| -f32::from(*zero) * scale),
            Offsets::Min(mins) => tile_scales(w, mins, tile, group),
        };
        for m in 0..M {
            let sum = sums[m][group];
            for lane in 0..LANES {
                acc[m][lane] = s[m][lane].mul_add(scale[lane], acc[m][lane]);
                acc[m][lane] = offset[lane].mul_add(sum, acc[m][lane]);
            }
        }
    }
    acc
}

/// Quanta of elements k..k + 4 of the tile's 16 outputs: byte b of word r is that of output r, element k + b.
#[inline(always)]
fn quad_words<const BITS: u32>(w: &AffineMatrix, tile: usize, k: usize) -> [u32; LANES] {
    let run = tile * (w.shape().k / 32) + k / 32;
    let quad = k % 32 / 4;
    if BITS == 8 {
        return words(w.low(), run * 512 + 64 * quad);
    }
    let low = words(w.low(), run * 256 + 64 * (quad / 2));
    let low = low.map(|word| word >> (4 * (quad as u32 % 2)) & 0x0f0f_0f0f);
    let high = match BITS {
        5 => words(w.high(), run * 64).map(|word| (word >> quad & 0x0101_0101) << 4),
        6 => words(w.high(), run * 128 + 64 * (quad / 4))
            .map(|word| (word >> (2 * (quad % 4)) & 0x0303_0303) << 4),
        _ => return low,
    };
    std::array::from_fn(|i| low[i] | high[i])
}

#[inline(always)]
fn words(plane: &[u8], start: usize) -> [u32; LANES] {
    let bytes: &[u8; 4 * LANES] = plane[start..][..4 * LANES]
        .try_into()
        .expect("a length of 64");
    std::array::from_fn(|i| {
        u32::from_le_bytes([
            bytes[4 * i],
            bytes[4 * i + 1],
            bytes[4 * i + 2],
            bytes[4 * i + 3],
        ])
    })
}

/// Scales of one group of the tile's 16 outputs.
#[inline(always)]
fn tile_scales(w: &AffineMatrix, scales: &Scales, tile: usize, group: usize) -> [f32; LANES] {
    let shape = w.shape();
    let at = |per_tile: usize, i: usize| (tile * per_tile + i) * LANES;
    let direct = at(shape.k / shape.group, group);
    match scales {
        Scales::Direct(plane) => widened(&plane[direct..][..LANES]),
        Scales::TwoLevel { supers, subs } => {
            let outer = at(shape.k / 256, group * shape.group / 256);
            let outer = widened(&supers[outer..][..LANES]);
            let inner = &subs[direct..][..LANES];
            std::array::from_fn(|i| outer[i] * f32::from(inner[i]))
        }
    }
}

#[inline(always)]
fn widened(bits: &[u16]) -> [f32; LANES] {
    std::array::from_fn(|i| F16(bits[i]).widen())
}
