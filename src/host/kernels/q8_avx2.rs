//! [`super::q8_tile`] on AVX2: half a tile, 8 outputs, in a register.

use super::{LANES, Q8Rows};
use crate::checkpoint::{AffineMatrix, Offsets, Scales};
use std::arch::x86_64::*;

/// # Safety
/// AVX2, FMA and F16C are there, `tile` is a tile of `w`, and `x` has rows `first..first + out.len()` of w's k.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn tile(
    w: &AffineMatrix,
    tile: usize,
    x: &Q8Rows<'_>,
    first: usize,
    out: &mut [[f32; LANES]],
) {
    // SAFETY: passed on.
    unsafe {
        match w.shape().bits {
            4 => by_rows::<4>(w, tile, x, first, out),
            5 => by_rows::<5>(w, tile, x, first, out),
            6 => by_rows::<6>(w, tile, x, first, out),
            _ => by_rows::<8>(w, tile, x, first, out),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn by_rows<const BITS: u32>(
    w: &AffineMatrix,
    tile: usize,
    x: &Q8Rows<'_>,
    first: usize,
    out: &mut [[f32; LANES]],
) {
    macro_rules! rows {
        ($m:literal) => {
            if let Some(out) = out.first_chunk_mut::<$m>() {
                // SAFETY: passed on.
                unsafe { rows::<BITS, $m>(w, tile, x, first, out) }
            }
        };
    }
    match out.len() {
        1 => rows!(1),
        2 => rows!(2),
        3 => rows!(3),
        4 => rows!(4),
        5 => rows!(5),
        6 => rows!(6),
        7 => rows!(7),
        8 => rows!(8),
        _ => {}
    }
}

/// Scales and offsets of one tile, 8 outputs of one group at a time.
struct Groups<'a> {
    scales: &'a Scales,
    offsets: &'a Offsets,
    tile: usize,
    per_tile: usize,
    supers_per_tile: usize,
    groups_per_super: usize,
}

impl Groups<'_> {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(&self, scales: &Scales, group: usize, half: usize) -> __m256 {
        let index = |per_tile: usize, i: usize| (self.tile * per_tile + i) * LANES + 8 * half;
        // SAFETY: planes hold 16 entries for every group of every tile.
        unsafe {
            match scales {
                Scales::Direct(plane) => {
                    let at = plane.as_ptr().add(index(self.per_tile, group));
                    _mm256_cvtph_ps(_mm_loadu_si128(at.cast()))
                }
                Scales::TwoLevel { supers, subs } => {
                    let outer = index(self.supers_per_tile, group / self.groups_per_super);
                    let outer = _mm256_cvtph_ps(_mm_loadu_si128(supers.as_ptr().add(outer).cast()));
                    let inner = subs.as_ptr().add(index(self.per_tile, group));
                    let inner = _mm256_cvtepi8_epi32(_mm_loadl_epi64(inner.cast()));
                    _mm256_mul_ps(outer, _mm256_cvtepi32_ps(inner))
                }
            }
        }
    }

    /// Scale, and the offset for quanta less `bias`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn get(&self, group: usize, half: usize, bias: f32) -> (__m256, __m256) {
        // SAFETY: passed on.
        unsafe {
            let scale = self.load(self.scales, group, half);
            let offset = match self.offsets {
                Offsets::Zero(zero) => _mm256_mul_ps(_mm256_set1_ps(-f32::from(*zero)), scale),
                Offsets::Min(mins) => self.load(mins, group, half),
            };
            let raised = _mm256_fmadd_ps(_mm256_set1_ps(bias), scale, offset);
            (scale, if bias == 0.0 { offset } else { raised })
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<const BITS: u32, const M: usize>(
    w: &AffineMatrix,
    tile: usize,
    x: &Q8Rows<'_>,
    first: usize,
    out: &mut [[f32; LANES]; M],
) {
    let shape = w.shape();
    let (k, runs) = (shape.k, shape.k / 32);
    let bias = if BITS == 8 { 128.0 } else { 0.0 };
    let groups = Groups {
        scales: w.scales(),
        offsets: w.offsets(),
        tile,
        per_tile: k / shape.group,
        supers_per_tile: k / 256,
        groups_per_super: (256 / shape.group).max(1),
    };
    let low_run = if BITS == 8 { 512 } else { 256 };
    let high_run = match BITS {
        5 => 64,
        6 => 128,
        _ => 0,
    };
    let mut acc = [[_mm256_setzero_ps(); M]; 2];
    // SAFETY: planes hold every run of every tile; `x` holds rows first..first + M.
    unsafe {
        let low = w.low().as_ptr().add(tile * runs * low_run);
        let high = w.high().as_ptr().wrapping_add(tile * runs * high_run);
        for run in 0..runs {
            let low = low.add(run * low_run);
            let high = high.wrapping_add(run * high_run);
            let quanta = x.quanta.as_ptr().add(first * k + 32 * run);
            for half in 0..2 {
                let (low, high) = (low.add(32 * half), high.wrapping_add(32 * half));
                if shape.group == 16 {
                    for part in 0..2 {
                        let (scale, offset) = groups.get(2 * run + part, half, bias);
                        let s = dots::<BITS, M>(low, high, 4 * part, 4, quanta, k);
                        for m in 0..M {
                            let row = (first + m) * runs + run;
                            let x_scale = _mm256_set1_ps(*x.scales.get_unchecked(row));
                            let x_sum = _mm256_set1_ps(*x.sums16.get_unchecked(2 * row + part));
                            let a = _mm256_mul_ps(scale, x_scale);
                            let a = _mm256_fmadd_ps(s[m], a, acc[half][m]);
                            acc[half][m] = _mm256_fmadd_ps(offset, x_sum, a);
                        }
                    }
                } else {
                    let (scale, offset) = groups.get(run, half, bias);
                    let s = dots::<BITS, M>(low, high, 0, 8, quanta, k);
                    for m in 0..M {
                        let row = (first + m) * runs + run;
                        let x_scale = _mm256_set1_ps(*x.scales.get_unchecked(row));
                        let x_sum = _mm256_set1_ps(*x.sums32.get_unchecked(row));
                        let a = _mm256_mul_ps(scale, x_scale);
                        let a = _mm256_fmadd_ps(s[m], a, acc[half][m]);
                        acc[half][m] = _mm256_fmadd_ps(offset, x_sum, a);
                    }
                }
            }
        }
        for (half, acc) in acc.iter().enumerate() {
            for (m, acc) in acc.iter().enumerate() {
                _mm256_storeu_ps(out[m].as_mut_ptr().add(8 * half), *acc);
            }
        }
    }
}

/// Dot products of 8 outputs, quads `first..first + count` of a run, with the same elements of `M` rows that lie
/// `stride` apart, as f32 (the sums are exact: below 2^24). A quad is unpacked once and used for all rows, so that
/// what stays in registers is a sum for each row.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots<const BITS: u32, const M: usize>(
    low: *const u8,
    high: *const u8,
    first: usize,
    count: usize,
    x: *const i8,
    stride: usize,
) -> [__m256; M] {
    // Quads whose products add up within 16 bits: 2 * 127 * (2^BITS - 1) each.
    let per_word = match BITS {
        4 => 8,
        5 => 4,
        6 => 2,
        _ => 1,
    };
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); M];
    for start in (first..first + count).step_by(per_word) {
        let mut words = [_mm256_setzero_si256(); M];
        for j in start..(start + per_word).min(first + count) {
            // SAFETY: the run has its bytes in both planes, and each row its 32 elements.
            unsafe {
                let q = quad::<BITS>(low, high, j);
                for m in 0..M {
                    let x = x.add(m * stride + 4 * j).cast::<i32>().read_unaligned();
                    let x = _mm256_set1_epi32(x);
                    let pairs = if BITS == 8 {
                        // |w| is at most 128 and |x| at most 127, so a pair stays within 16 bits.
                        _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(x, q))
                    } else {
                        _mm256_maddubs_epi16(q, x)
                    };
                    words[m] = _mm256_add_epi16(words[m], pairs);
                }
            }
        }
        for m in 0..M {
            sums[m] = _mm256_add_epi32(sums[m], _mm256_madd_epi16(words[m], ones));
        }
    }
    let mut floats = [_mm256_setzero_ps(); M];
    for m in 0..M {
        floats[m] = _mm256_cvtepi32_ps(sums[m]);
    }
    floats
}

/// Quanta of elements 4 j..4 j + 4 of 8 outputs; 8-bit ones as q - 128.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn quad<const BITS: u32>(low: *const u8, high: *const u8, j: usize) -> __m256i {
    // SAFETY: the caller's run has its bytes in both planes.
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
