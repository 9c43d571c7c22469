//! The 8-bit formats `.e4m3` and `.e5m2`, and `.tf32`.
//!
//! PTX converts to 8 bits with `.rn.satfinite` only: what is too large becomes the largest finite number, an infinity
//! too. NaN becomes `0x7f` in both formats. `.e4m3` has no infinities; its only NaN are `0x7f` and `0xff`.

use super::half::{self, f16_to_f32, f32_to_f16};
use super::{Rounding, float32};

/// Rounding of a conversion to `.tf32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tf32Rounding {
    /// To nearest, ties away from zero: `.rna`.
    NearestAway,
    /// To nearest, ties to even: `.rn`.
    Nearest,
    /// Towards zero: `.rz`.
    Zero,
}

/// The nearest number with `FRACTION` bits of fraction, exponent bias `BIAS` and largest finite number `MAX`.
#[inline(always)]
fn encode<const FRACTION: u32, const BIAS: u32, const MAX: u32>(x: f32, relu: bool) -> u8 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let drop = 23 - FRACTION;
    // Adding this number puts the last bit of a subnormal result at the last bit of the sum, where the addition rounds.
    let anchor = (127 + 1 - BIAS + drop) << 23;
    let subnormal = (f32::from_bits(magnitude) + f32::from_bits(anchor))
        .to_bits()
        .wrapping_sub(anchor);
    let odd = (magnitude >> drop) & 1;
    let half = (1 << (drop - 1)) - 1 + odd;
    let normal = magnitude
        .wrapping_sub((127 - BIAS) << 23)
        .wrapping_add(half)
        >> drop;
    let finite = if magnitude < (128 - BIAS) << 23 {
        subnormal
    } else {
        normal.min(MAX)
    };
    let negative = bits >> 31 != 0;
    let sign = if negative { 0x80 } else { 0 };
    let number = if relu & negative {
        0
    } else {
        finite as u8 | sign
    };
    if magnitude > 0x7f80_0000 {
        0x7f
    } else {
        number
    }
}

/// `.rn.satfinite.e4m3` of a single; `relu` replaces negative results by +0.
#[inline(always)]
pub fn f32_to_e4m3(x: f32, relu: bool) -> u8 {
    encode::<3, 7, 0x7e>(x, relu)
}

/// `.rn.satfinite.e5m2` of a single; `relu` replaces negative results by +0.
#[inline(always)]
pub fn f32_to_e5m2(x: f32, relu: bool) -> u8 {
    encode::<2, 15, 0x7b>(x, relu)
}

/// `.rn.satfinite.e4m3` of a half; `relu` replaces negative results by +0.
#[inline(always)]
pub fn f16_to_e4m3(bits: u16, relu: bool) -> u8 {
    f32_to_e4m3(f16_to_f32(bits), relu)
}

/// `.rn.satfinite.e5m2` of a half; `relu` replaces negative results by +0.
#[inline(always)]
pub fn f16_to_e5m2(bits: u16, relu: bool) -> u8 {
    f32_to_e5m2(f16_to_f32(bits), relu)
}

/// The value of an `.e4m3` number.
#[inline(always)]
pub fn e4m3_to_f32(bits: u8) -> f32 {
    let sign = u32::from(bits & 0x80) << 24;
    let magnitude = bits & 0x7f;
    // With its exponent in a half's field the number is 2^-8 of itself.
    let value = f16_to_f32(u16::from(magnitude) << 7) * 256.0;
    f32::from_bits(if magnitude == 0x7f {
        float32::NAN_BITS
    } else {
        value.to_bits() | sign
    })
}

/// The value of an `.e5m2` number.
#[inline(always)]
pub fn e5m2_to_f32(bits: u8) -> f32 {
    f16_to_f32(u16::from(bits) << 8)
}

/// The value of an `.e4m3` number as a half, which holds all of them.
#[inline(always)]
pub fn e4m3_to_f16(bits: u8) -> u16 {
    f32_to_f16(e4m3_to_f32(bits), Rounding::Nearest)
}

/// The value of an `.e5m2` number as a half, which holds all of them.
#[inline(always)]
pub fn e5m2_to_f16(bits: u8) -> u16 {
    let wide = u16::from(bits) << 8;
    if wide & 0x7fff > 0x7c00 {
        half::NAN_BITS
    } else {
        wide
    }
}

/// A single with 10 bits of fraction left, the others zero (`cvt.tf32.f32`). `satfinite` stops at the largest finite
/// number, `relu` replaces negative results by +0.
#[inline(always)]
pub fn f32_to_tf32(x: f32, rounding: Tf32Rounding, relu: bool, satfinite: bool) -> f32 {
    const KEPT: u32 = !0x1fff;
    let bits = x.to_bits();
    let odd = (bits >> 13) & 1;
    let rounded = KEPT
        & match rounding {
            Tf32Rounding::NearestAway => bits.wrapping_add(0x1000),
            Tf32Rounding::Nearest => bits.wrapping_add(0xfff + odd),
            Tf32Rounding::Zero => bits,
        };
    let sign = bits & 0x8000_0000;
    let finite = if satfinite {
        (rounded & !sign).min(f32::MAX.to_bits() & KEPT) | sign
    } else {
        rounded
    };
    let number = if relu & (sign != 0) { 0 } else { finite };
    f32::from_bits(if x.is_nan() {
        float32::NAN_BITS
    } else {
        number
    })
}
