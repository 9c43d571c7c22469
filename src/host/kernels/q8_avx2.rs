//! [`super::q8_tile`] on AVX2: half a tile, 8 outputs, in a register; both halves of up to 4 rows at a time, which is
//! what its 16 registers hold.

use super::q8::{TileScales, by_form, prefetch_run, run_bytes};
use super::{LANES, Q8Block, Q8Group};
use crate::checkpoint::{AffineMatrix, Offsets};
use std::arch::x86_64::*;

/// # Safety
/// AVX2, FMA and F16C are there, `tile` is a tile of `w`, and `x` has w's k and as many rows as `out`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn tile(w: &AffineMatrix, tile: usize, x: &Q8Block<'_>, out: &mut [[f32; LANES]]) {
    for (i, out) in out.chunks_mut(4).enumerate() {
        macro_rules! rows {
            ($m:literal) => {
                if let Some(out) = out.first_chunk_mut::<$m>() {
                    // SAFETY: passed on.
                    unsafe { by_form!(rows::<$m>, w, tile, x, 4 * i, out) }
                }
            };
        }
        match out.len() {
            1 => rows!(1),
            2 => rows!(2),
            3 => rows!(3),
            _ => rows!(4),
        }
    }
}

/// Products of the rows `from..from + M` of `x`.
///
/// # Safety
/// That of [`tile`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<const BITS: u32, const GROUP: usize, const ZERO: bool, const M: usize>(
    w: &AffineMatrix,
    tile: usize,
    x: &Q8Block<'_>,
    from: usize,
    out: &mut [[f32; LANES]; M],
) {
    let runs = w.shape().k / 32;
    let (low_run, high_run) = run_bytes(BITS);
    let scales = TileScales::new::<GROUP>(w, w.scales(), tile);
    let (mins, zero) = match w.offsets() {
        Offsets::Min(mins) => (TileScales::new::<GROUP>(w, mins, tile), 0),
        Offsets::Zero(zero) => (scales, i16::from(*zero)),
    };
    // `quad` gives 8-bit quanta less 128.
    let less_zero = if BITS == 8 { 128 - zero } else { -zero };
    let mut acc = [[_mm256_setzero_ps(); 2]; M];
    // SAFETY: planes hold every run of every tile; `x` holds every run of rows from..from + M.
    unsafe {
        let low = w.low().as_ptr().add(tile * runs * low_run);
        let high = w.high().as_ptr().wrapping_add(tile * runs * high_run);
        for run in 0..runs {
            let low = low.add(run * low_run);
            let high = high.wrapping_add(run * high_run);
            prefetch_run::<BITS, GROUP, ZERO>(run, low, high, &scales, &mins);
            let rows = x.groups.as_ptr().add(run * x.rows + from);
            for part in 0..32 / GROUP {
                let group = run * (32 / GROUP) + part;
                let quads = GROUP / 4;
                let s = dots::<BITS, M>(low, high, part * quads, quads, rows);
                let scale = widen(&scales, group);
                let min = if ZERO { scale } else { widen(&mins, group) };
                for m in 0..M {
                    let x = &*rows.add(m);
                    let x_scale = _mm256_set1_ps(x.scale);
                    let [first, second] = x.sums.map(i32::from);
                    let (sum, x_sum) = match (GROUP, part) {
                        (16, 0) => (first, x.sums16[0]),
                        (16, _) => (second, x.sums16[1]),
                        _ => (first + second, x.sum32),
                    };
                    let less = _mm256_set1_epi32(sum * i32::from(less_zero));
                    for half in 0..2 {
                        let mut s = s[m][half];
                        if ZERO {
                            s = _mm256_add_epi32(s, less);
                        }
                        let product = _mm256_mul_ps(scale[half], x_scale);
                        let a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s), product, acc[m][half]);
                        acc[m][half] = match ZERO {
                            true => a,
                            false => _mm256_fmadd_ps(min[half], _mm256_set1_ps(x_sum), a),
                        };
                    }
                }
            }
        }
        for (out, acc) in out.iter_mut().zip(acc) {
            for (half, acc) in acc.into_iter().enumerate() {
                _mm256_storeu_ps(out.as_mut_ptr().add(8 * half), acc);
            }
        }
    }
}

/// Scales of a group in f32, 8 outputs each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen(scales: &TileScales<'_>, group: usize) -> [__m256; 2] {
    let (floats, subs) = scales.group(group);
    // SAFETY: both are 16 elements.
    let half = |half: usize| unsafe {
        let floats = _mm_loadu_si128(floats.as_ptr().add(8 * half).cast());
        let floats = _mm256_cvtph_ps(floats);
        let Some(subs) = subs else {
            return floats;
        };
        let subs = _mm_loadl_epi64(subs.as_ptr().add(8 * half).cast());
        _mm256_mul_ps(floats, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(subs)))
    };
    [half(0), half(1)]
}

/// Dot products of both halves of the tile, quads `first..first + count` of a run, with `M` rows at `x`.
/// A quad is unpacked once and an element broadcast once for all of them, so that what stays in registers is a sum
/// for each row and half.
///
/// # Safety
/// The run has its bytes in both planes, and there are M rows at `x`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots<const BITS: u32, const M: usize>(
    low: *const u8,
    high: *const u8,
    first: usize,
    count: usize,
    x: *const Q8Group,
) -> [[__m256i; 2]; M] {
    // Quads whose products add up within 16 bits: 2 * 127 * (2^BITS - 1) each.
    let per_word = match BITS {
        4 => 8,
        5 => 4,
        6 => 2,
        _ => 1,
    };
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    for start in (first..first + count).step_by(per_word) {
        let mut words = [[_mm256_setzero_si256(); 2]; M];
        for j in start..(start + per_word).min(first + count) {
            // SAFETY: the caller's promise.
            unsafe {
                let q = [
                    quad::<BITS>(low, high, j),
                    quad::<BITS>(low.add(32), high.wrapping_add(32), j),
                ];
                for m in 0..M {
                    let x = (*x.add(m)).quanta.as_ptr().cast::<i32>();
                    let x = x.add(j).read_unaligned();
                    let x = _mm256_set1_epi32(x);
                    for half in 0..2 {
                        let pairs = if BITS == 8 {
                            // |w| is at most 128 and |x| at most 127, so a pair stays within 16 bits.
                            let x = _mm256_sign_epi8(x, q[half]);
                            _mm256_maddubs_epi16(_mm256_abs_epi8(q[half]), x)
                        } else {
                            _mm256_maddubs_epi16(q[half], x)
                        };
                        words[m][half] = _mm256_add_epi16(words[m][half], pairs);
                    }
                }
            }
        }
        for m in 0..M {
            for half in 0..2 {
                let pairs = _mm256_madd_epi16(words[m][half], ones);
                sums[m][half] = _mm256_add_epi32(sums[m][half], pairs);
            }
        }
    }
    sums
}

/// Quanta of elements 4 j..4 j + 4 of 8 outputs; 8-bit ones as q - 128.
///
/// # Safety
/// The run has its bytes in both planes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn quad<const BITS: u32>(low: *const u8, high: *const u8, j: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let load = |at: *const u8| _mm256_loadu_si256(at.cast());
        if BITS == 8 {
            return _mm256_xor_si256(load(low.add(64 * j)), _mm256_set1_epi8(-128));
        }
        let shift = |bits: __m256i, by: usize| _mm256_srl_epi16(bits, _mm_cvtsi32_si128(by as i32));
        let bytes = load(low.add(64 * (j / 2)));
        let nibbles = if j.is_multiple_of(2) {
            bytes
        } else {
            _mm256_srli_epi16::<4>(bytes)
        };
        let nibbles = _mm256_and_si256(nibbles, _mm256_set1_epi8(15));
        match BITS {
            5 => {
                let bit = _mm256_and_si256(shift(load(high), j), _mm256_set1_epi8(1));
                _mm256_or_si256(nibbles, _mm256_slli_epi16::<4>(bit))
            }
            6 => {
                let bits = shift(load(high.add(64 * (j / 4))), 2 * (j % 4));
                let bits = _mm256_and_si256(bits, _mm256_set1_epi8(3));
                _mm256_or_si256(nibbles, _mm256_slli_epi16::<4>(bits))
            }
            _ => nibbles,
        }
    }
}
