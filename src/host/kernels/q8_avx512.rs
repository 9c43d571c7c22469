//! [`super::q8_tile`] on AVX-512 with VNNI: a whole tile, 16 outputs, in a register, and a register for each row.

use super::q8::{TileScales, by_form, prefetch_run, run_bytes};
use super::{LANES, Q8Block};
use crate::checkpoint::{AffineMatrix, Offsets};
use std::arch::x86_64::*;

/// # Safety
/// AVX-512 F, BW, VL and VNNI are there, `tile` is a tile of `w`, and `x` has w's k, at most 8 rows, and as many as
/// `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn tile(w: &AffineMatrix, tile: usize, x: &Q8Block<'_>, out: &mut [[f32; LANES]]) {
    macro_rules! rows {
        ($m:literal) => {
            if let Some(out) = out.first_chunk_mut::<$m>() {
                // SAFETY: passed on.
                unsafe { by_form!(rows::<$m>, w, tile, x, 0, out) }
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

/// Products of the M rows of `x`; `from` is 0.
///
/// # Safety
/// That of [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn rows<const BITS: u32, const GROUP: usize, const ZERO: bool, const M: usize>(
    w: &AffineMatrix,
    tile: usize,
    x: &Q8Block<'_>,
    from: usize,
    out: &mut [[f32; LANES]; M],
) {
    debug_assert!(from == 0 && x.rows == M);
    let runs = w.shape().k / 32;
    let (low_run, high_run) = run_bytes(BITS);
    let scales = TileScales::new::<GROUP>(w, w.scales(), tile);
    let (mins, zero) = match w.offsets() {
        Offsets::Min(mins) => (TileScales::new::<GROUP>(w, mins, tile), 0),
        Offsets::Zero(zero) => (scales, i16::from(*zero)),
    };
    let less_zero = _mm512_set1_epi16(-zero);
    let mut acc = [_mm512_setzero_ps(); M];
    // SAFETY: planes hold every run of every tile; `x` holds every run of M rows.
    unsafe {
        let mut low = w.low().as_ptr().add(tile * runs * low_run);
        let mut high = w.high().as_ptr().wrapping_add(tile * runs * high_run);
        let mut groups = x.groups.as_ptr();
        for run in 0..runs {
            prefetch_run::<BITS, GROUP, ZERO>(run, low, high, &scales, &mins);
            let q = unpack::<BITS>(low, high);
            if GROUP == 16 {
                let (scale0, scale1) = (widen(&scales, 2 * run), widen(&scales, 2 * run + 1));
                // One half of the sums each.
                let zero0 = _mm512_maskz_mov_epi16(0x5555_5555, less_zero);
                let zero1 = _mm512_maskz_mov_epi16(0xaaaa_aaaa, less_zero);
                let (min0, min1) = match ZERO {
                    true => (scale0, scale1),
                    false => (widen(&mins, 2 * run), widen(&mins, 2 * run + 1)),
                };
                for m in 0..M {
                    let group = &*groups.add(m);
                    let x = group.quanta.as_ptr().cast::<i32>();
                    let x_scale = _mm512_set1_ps(group.scale);
                    let (mut s0, mut s1) = (_mm512_setzero_si512(), _mm512_setzero_si512());
                    if ZERO {
                        let sums = group.sums.as_ptr().cast::<i32>().read_unaligned();
                        let sums = _mm512_set1_epi32(sums);
                        s0 = _mm512_dpwssd_epi32(s0, zero0, sums);
                        s1 = _mm512_dpwssd_epi32(s1, zero1, sums);
                    }
                    let s0 = dot4(s0, [q[0], q[1], q[2], q[3]], x);
                    let s1 = dot4(s1, [q[4], q[5], q[6], q[7]], x.add(4));
                    let mut a = scaled(s0, scale0, x_scale, acc[m]);
                    if !ZERO {
                        a = _mm512_fmadd_ps(min0, _mm512_set1_ps(group.sums16[0]), a);
                    }
                    a = scaled(s1, scale1, x_scale, a);
                    if !ZERO {
                        a = _mm512_fmadd_ps(min1, _mm512_set1_ps(group.sums16[1]), a);
                    }
                    acc[m] = a;
                }
            } else {
                let scale = widen(&scales, run);
                let min = if ZERO { scale } else { widen(&mins, run) };
                for m in 0..M {
                    let group = &*groups.add(m);
                    let x = group.quanta.as_ptr().cast::<i32>();
                    let mut s = _mm512_setzero_si512();
                    if ZERO {
                        let sums = group.sums.as_ptr().cast::<i32>().read_unaligned();
                        let sums = _mm512_set1_epi32(sums);
                        s = _mm512_dpwssd_epi32(s, less_zero, sums);
                    }
                    let s = dot4(s, [q[0], q[1], q[2], q[3]], x);
                    let s = dot4(s, [q[4], q[5], q[6], q[7]], x.add(4));
                    let x_scale = _mm512_set1_ps(group.scale);
                    acc[m] = scaled(s, scale, x_scale, acc[m]);
                    if !ZERO {
                        acc[m] = _mm512_fmadd_ps(min, _mm512_set1_ps(group.sum32), acc[m]);
                    }
                }
            }
            low = low.add(low_run);
            high = high.wrapping_add(high_run);
            groups = groups.add(M);
        }
        for (out, acc) in out.iter_mut().zip(acc) {
            _mm512_storeu_ps(out.as_mut_ptr(), acc);
        }
    }
}

/// `acc + s * (scale * x_scale)`.
#[inline]
#[target_feature(enable = "avx512f")]
fn scaled(s: __m512i, scale: __m512, x_scale: __m512, acc: __m512) -> __m512 {
    _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), _mm512_mul_ps(scale, x_scale), acc)
}

/// Adds the products of four quads with the elements at `x`.
///
/// # Safety
/// 16 bytes can be read at `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dot4(s: __m512i, q: [__m512i; 4], x: *const i32) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let x = |j: usize| _mm512_set1_epi32(x.add(j).read_unaligned());
        let s = _mm512_dpbusd_epi32(s, q[0], x(0));
        let s = _mm512_dpbusd_epi32(s, q[1], x(1));
        let s = _mm512_dpbusd_epi32(s, q[2], x(2));
        _mm512_dpbusd_epi32(s, q[3], x(3))
    }
}

/// Scales of a group in f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn widen(scales: &TileScales<'_>, group: usize) -> __m512 {
    let (floats, subs) = scales.group(group);
    // SAFETY: both are 16 elements.
    unsafe {
        let floats = _mm512_cvtph_ps(_mm256_loadu_si256(floats.as_ptr().cast()));
        let Some(subs) = subs else {
            return floats;
        };
        let subs = _mm512_cvtepi8_epi32(_mm_loadu_si128(subs.as_ptr().cast()));
        _mm512_mul_ps(floats, _mm512_cvtepi32_ps(subs))
    }
}

/// Quanta of 32 k of 16 outputs, unsigned: register j holds elements 4 j..4 j + 4 of each.
///
/// # Safety
/// The run has its bytes in both planes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn unpack<const BITS: u32>(low: *const u8, high: *const u8) -> [__m512i; 8] {
    let mut q = [_mm512_setzero_si512(); 8];
    // SAFETY: the caller's promise.
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
            let moved = [
                _mm512_slli_epi16::<4>(bits),
                _mm512_slli_epi16::<3>(bits),
                _mm512_slli_epi16::<2>(bits),
                _mm512_slli_epi16::<1>(bits),
                bits,
                _mm512_srli_epi16::<1>(bits),
                _mm512_srli_epi16::<2>(bits),
                _mm512_srli_epi16::<3>(bits),
            ];
            for (q, moved) in q.iter_mut().zip(moved) {
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
                for (q, moved) in q[4 * h..].iter_mut().zip(moved) {
                    *q = _mm512_or_si512(*q, _mm512_and_si512(moved, three));
                }
            }
        }
    }
    q
}
