//! [`super::q8_tile`] on AVX-512 with VNNI: a whole tile, 16 outputs, in a register.

use super::{LANES, Q8Rows};
use crate::checkpoint::{AffineMatrix, Offsets, Scales};
use std::arch::x86_64::*;

/// # Safety
/// AVX-512 F, BW, VL and VNNI are there, `tile` is a tile of `w`, and `x` has rows `first..first + out.len()` of
/// w's k.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn tile(
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
                unsafe {
                    match w.shape().bits {
                        4 => rows::<4, $m>(w, tile, x, first, out),
                        5 => rows::<5, $m>(w, tile, x, first, out),
                        6 => rows::<6, $m>(w, tile, x, first, out),
                        _ => rows::<8, $m>(w, tile, x, first, out),
                    }
                }
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

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load_scales(scales: &Scales, group: usize, outer: usize) -> __m512 {
    // SAFETY: planes hold 16 entries for every group of every tile; the caller counts both from the first tile.
    unsafe {
        match scales {
            Scales::Direct(plane) => {
                _mm512_cvtph_ps(_mm256_loadu_si256(plane.as_ptr().add(group * LANES).cast()))
            }
            Scales::TwoLevel { supers, subs } => {
                let outer = supers.as_ptr().add(outer * LANES);
                let outer = _mm512_cvtph_ps(_mm256_loadu_si256(outer.cast()));
                let inner = _mm_loadu_si128(subs.as_ptr().add(group * LANES).cast());
                _mm512_mul_ps(outer, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(inner)))
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn rows<const BITS: u32, const M: usize>(
    w: &AffineMatrix,
    tile: usize,
    x: &Q8Rows<'_>,
    first: usize,
    out: &mut [[f32; LANES]; M],
) {
    let shape = w.shape();
    let (k, runs) = (shape.k, shape.k / 32);
    let groups_per_run = (32 / shape.group).max(1);
    let low_run = if BITS == 8 { 512 } else { 256 };
    let high_run = match BITS {
        5 => 64,
        6 => 128,
        _ => 0,
    };
    let mut acc = [_mm512_setzero_ps(); M];
    // SAFETY: planes hold every run of every tile; `x` holds rows first..first + M.
    unsafe {
        let low = w.low().as_ptr().add(tile * runs * low_run);
        let high = w.high().as_ptr().wrapping_add(tile * runs * high_run);
        for run in 0..runs {
            let q = unpack::<BITS>(low.add(run * low_run), high.wrapping_add(run * high_run));
            for part in 0..groups_per_run {
                let quads = 8 / groups_per_run;
                let group = tile * (k / shape.group) + 32 * run / shape.group + part;
                let outer = tile * (k / 256) + 32 * run / 256;
                let scale = load_scales(w.scales(), group, outer);
                let mut offset = match w.offsets() {
                    Offsets::Zero(zero) => _mm512_mul_ps(_mm512_set1_ps(-f32::from(*zero)), scale),
                    Offsets::Min(mins) => load_scales(mins, group, outer),
                };
                if BITS == 8 {
                    offset = _mm512_fmadd_ps(_mm512_set1_ps(128.0), scale, offset);
                }
                for m in 0..M {
                    let row = (first + m) * runs + run;
                    let quanta = x.quanta.as_ptr().add((first + m) * k + 32 * run);
                    let mut sum = _mm512_setzero_si512();
                    for j in part * quads..(part + 1) * quads {
                        let quad = quanta.add(4 * j).cast::<i32>().read_unaligned();
                        sum = _mm512_dpbusd_epi32(sum, q[j], _mm512_set1_epi32(quad));
                    }
                    let x_sum = if groups_per_run == 2 {
                        *x.sums16.get_unchecked(2 * row + part)
                    } else {
                        *x.sums32.get_unchecked(row)
                    };
                    if BITS == 8 {
                        let sums = x.sums.as_ptr().add(2 * row);
                        let x_sum = if groups_per_run == 2 {
                            *sums.add(part)
                        } else {
                            *sums + *sums.add(1)
                        };
                        sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(128 * x_sum));
                    }
                    let x_scale = _mm512_set1_ps(*x.scales.get_unchecked(row));
                    let product = _mm512_mul_ps(scale, x_scale);
                    let a = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), product, acc[m]);
                    acc[m] = _mm512_fmadd_ps(offset, _mm512_set1_ps(x_sum), a);
                }
            }
        }
        for (out, acc) in out.iter_mut().zip(acc) {
            _mm512_storeu_ps(out.as_mut_ptr(), acc);
        }
    }
}

/// Quanta of 32 k of 16 outputs, unsigned: register j holds elements 4 j..4 j + 4 of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn unpack<const BITS: u32>(low: *const u8, high: *const u8) -> [__m512i; 8] {
    let mut q = [_mm512_setzero_si512(); 8];
    // SAFETY: the caller's run has its bytes in both planes.
    unsafe {
        let load = |at: *const u8| _mm512_loadu_si512(at.cast());
        if BITS == 8 {
            for (j, q) in q.iter_mut().enumerate() {
                *q = load(low.add(64 * j));
            }
            return q;
        }
        let nibble = _mm512_set1_epi8(15);
        for j in 0..4 {
            let bytes = load(low.add(64 * j));
            q[2 * j] = _mm512_and_si512(bytes, nibble);
            q[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
        }
        if BITS == 5 {
            let bits = load(high);
            let one = _mm512_set1_epi8(16);
            for (j, q) in q.iter_mut().enumerate() {
                let left = _mm512_sllv_epi16(
                    bits,
                    _mm512_set1_epi16(4i16.saturating_sub(j as i16).max(0)),
                );
                let moved = _mm512_srlv_epi16(left, _mm512_set1_epi16((j as i16 - 4).max(0)));
                *q = _mm512_or_si512(*q, _mm512_and_si512(moved, one));
            }
        }
        if BITS == 6 {
            let three = _mm512_set1_epi8(48);
            for h in 0..2 {
                let bits = load(high.add(64 * h));
                let moved = [
                    _mm512_slli_epi16::<4>(bits),
                    _mm512_slli_epi16::<2>(bits),
                    bits,
                    _mm512_srli_epi16::<2>(bits),
                ];
                for (j, moved) in moved.into_iter().enumerate() {
                    let j = 4 * h + j;
                    q[j] = _mm512_or_si512(q[j], _mm512_and_si512(moved, three));
                }
            }
        }
    }
    q
}
