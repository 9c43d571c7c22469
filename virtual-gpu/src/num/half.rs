//! Half precision (`.f16`) and brain floats (`.bf16`), as bits, one value at a time and two in a word.
//!
//! Arithmetic rounds once: products are exact in a wider type, sums carry their error term into a round-to-odd, and
//! only then comes the rounding to 16 bits. Comparisons are those of the values as `f32`.

use super::float32;
use super::round::{BF16, F16, F32, F64};
use super::{Rounding, approx};

/// Bits of the not-a-number that operations of both formats return.
pub const NAN_BITS: u16 = 0x7fff;

const SIGN: u16 = 0x8000;
const F16_INFINITY: u16 = 0x7c00;
const BF16_INFINITY: u16 = 0x7f80;
const F16_ONE: u16 = 0x3c00;
const BF16_ONE: u16 = 0x3f80;

/// Modifiers of a 16-bit operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HalfMode {
    /// `.ftz`: subnormal operands and results are zero, sign kept.
    pub ftz: bool,
    /// `.sat`: clamps the result to [0, 1], NaN to +0.
    pub sat: bool,
    /// `.relu`: replaces a negative result (-0 included) by +0; NaN stays.
    pub relu: bool,
}

/// The value of a half; NaN becomes the canonical one of `f32`.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    // With its exponent in a single's field the number is 2^-112 of itself, subnormal ones too.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let sign = u32::from(bits & SIGN) << 16;
    let magnitude = u32::from(bits & !SIGN) << 13;
    let infinity = u32::from(F16_INFINITY) << 13;
    let finite = (f32::from_bits(magnitude) * SCALE).to_bits() | sign;
    let special = if magnitude == infinity {
        0x7f80_0000 | sign
    } else {
        float32::NAN_BITS
    };
    f32::from_bits(if magnitude >= infinity {
        special
    } else {
        finite
    })
}

/// The half nearest to `x` in the sense of `rounding`.
#[inline(always)]
pub fn f32_to_f16(x: f32, rounding: Rounding) -> u16 {
    if rounding != Rounding::Nearest {
        return F16.encode(F32.decode(x.to_bits().into()), rounding) as u16;
    }
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & SIGN;
    let magnitude = bits & 0x7fff_ffff;
    // Adding this number puts the last bit of a subnormal half at the last bit of the sum, where the addition rounds.
    let anchor = (127 - 15 + 23 - 10 + 1) << 23;
    let subnormal = (f32::from_bits(magnitude) + f32::from_bits(anchor))
        .to_bits()
        .wrapping_sub(anchor);
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude
        .wrapping_sub((127 - 15) << 23)
        .wrapping_add(0xfff + odd)
        >> 13;
    let finite = if magnitude < (127 - 14) << 23 {
        subnormal
    } else {
        normal
    };
    // 65520 is half a unit above the largest half.
    let result = if magnitude >= 0x477f_f000 {
        F16_INFINITY
    } else {
        finite as u16
    };
    if magnitude > 0x7f80_0000 {
        NAN_BITS
    } else {
        result | sign
    }
}

/// The value of a brain float. A NaN keeps its bits (PTX leaves them unspecified, and compilers emit a shift).
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The brain float nearest to `x` in the sense of `rounding`.
#[inline(always)]
pub fn f32_to_bf16(x: f32, rounding: Rounding) -> u16 {
    let bits = x.to_bits();
    let kept = bits >> 16;
    let inexact = u32::from(bits & 0xffff != 0);
    let negative = bits >> 31;
    let rounded = match rounding {
        Rounding::Nearest => bits.wrapping_add(0x7fff + (kept & 1)) >> 16,
        Rounding::Zero => kept,
        Rounding::Down => kept + (inexact & negative),
        Rounding::Up => kept + (inexact & (negative ^ 1)),
    };
    if x.is_nan() { NAN_BITS } else { rounded as u16 }
}

/// The half nearest to `x` in the sense of `rounding`, rounded once.
pub fn f64_to_f16(x: f64, rounding: Rounding) -> u16 {
    F16.encode(F64.decode(x.to_bits()), rounding) as u16
}

/// The brain float nearest to `x` in the sense of `rounding`, rounded once.
pub fn f64_to_bf16(x: f64, rounding: Rounding) -> u16 {
    BF16.encode(F64.decode(x.to_bits()), rounding) as u16
}

/// Replaces a subnormal half by zero of the same sign.
#[inline(always)]
pub fn f16_ftz(bits: u16) -> u16 {
    if bits & F16_INFINITY == 0 {
        bits & SIGN
    } else {
        bits
    }
}

/// Replaces a subnormal brain float by zero of the same sign.
#[inline(always)]
pub fn bf16_ftz(bits: u16) -> u16 {
    if bits & BF16_INFINITY == 0 {
        bits & SIGN
    } else {
        bits
    }
}

/// Clamps a half to [0, 1]; NaN and -0 become +0 (`.sat`).
#[inline(always)]
pub fn f16_saturate(bits: u16) -> u16 {
    clamp(
        bits,
        F16_INFINITY,
        F16_ONE,
        HalfMode {
            sat: true,
            ..HalfMode::default()
        },
    )
}

#[inline(always)]
fn f16_operand(bits: u16, mode: HalfMode) -> f32 {
    f16_to_f32(if mode.ftz { f16_ftz(bits) } else { bits })
}

#[inline(always)]
fn bf16_operand(bits: u16, mode: HalfMode) -> f32 {
    bf16_to_f32(if mode.ftz { bf16_ftz(bits) } else { bits })
}

#[inline(always)]
fn f16_result(bits: u16, mode: HalfMode) -> u16 {
    clamp(
        if mode.ftz { f16_ftz(bits) } else { bits },
        F16_INFINITY,
        F16_ONE,
        mode,
    )
}

#[inline(always)]
fn bf16_result(bits: u16, mode: HalfMode) -> u16 {
    clamp(
        if mode.ftz { bf16_ftz(bits) } else { bits },
        BF16_INFINITY,
        BF16_ONE,
        mode,
    )
}

#[inline(always)]
fn clamp(bits: u16, infinity: u16, one: u16, mode: HalfMode) -> u16 {
    let negative = bits & SIGN != 0;
    let nan = bits & !SIGN > infinity;
    let result = if mode.relu & negative & !nan { 0 } else { bits };
    let unit = if negative | nan { 0 } else { bits.min(one) };
    if mode.sat { unit } else { result }
}

/// `a + b`.
#[inline(always)]
pub fn f16_add(a: u16, b: u16, mode: HalfMode) -> u16 {
    // Rounding 24 bits to 11 is innocuous after one addition (Figueroa: 24 >= 2 * 11 + 2).
    f16_result(
        f32_to_f16(
            f16_operand(a, mode) + f16_operand(b, mode),
            Rounding::Nearest,
        ),
        mode,
    )
}

/// `a - b`.
#[inline(always)]
pub fn f16_sub(a: u16, b: u16, mode: HalfMode) -> u16 {
    f16_add(a, b ^ SIGN, mode)
}

/// `a * b`.
#[inline(always)]
pub fn f16_mul(a: u16, b: u16, mode: HalfMode) -> u16 {
    f16_result(
        f32_to_f16(
            f16_operand(a, mode) * f16_operand(b, mode),
            Rounding::Nearest,
        ),
        mode,
    )
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub fn f16_fma(a: u16, b: u16, c: u16, mode: HalfMode) -> u16 {
    let product = f16_operand(a, mode) * f16_operand(b, mode);
    let c = f16_operand(c, mode);
    let sum = product + c;
    let virtual_c = sum - product;
    let error = (product - (sum - virtual_c)) + (c - virtual_c);
    f16_result(f32_to_f16(odd32(sum, error), Rounding::Nearest), mode)
}

/// `a + b`.
#[inline(always)]
pub fn bf16_add(a: u16, b: u16, mode: HalfMode) -> u16 {
    bf16_result(
        f32_to_bf16(
            bf16_operand(a, mode) + bf16_operand(b, mode),
            Rounding::Nearest,
        ),
        mode,
    )
}

/// `a - b`.
#[inline(always)]
pub fn bf16_sub(a: u16, b: u16, mode: HalfMode) -> u16 {
    bf16_add(a, b ^ SIGN, mode)
}

/// `a * b`.
#[inline(always)]
pub fn bf16_mul(a: u16, b: u16, mode: HalfMode) -> u16 {
    // A single would round a subnormal product before its time.
    let product = f64::from(bf16_operand(a, mode)) * f64::from(bf16_operand(b, mode));
    bf16_result(
        f32_to_bf16(narrow_to_odd(product, 0.0), Rounding::Nearest),
        mode,
    )
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub fn bf16_fma(a: u16, b: u16, c: u16, mode: HalfMode) -> u16 {
    let product = f64::from(bf16_operand(a, mode)) * f64::from(bf16_operand(b, mode));
    let c = f64::from(bf16_operand(c, mode));
    let sum = product + c;
    let virtual_c = sum - product;
    let error = (product - (sum - virtual_c)) + (c - virtual_c);
    bf16_result(
        f32_to_bf16(narrow_to_odd(sum, error), Rounding::Nearest),
        mode,
    )
}

/// As [`bf16_fma`] without modifiers, and whether the sum rounded to a single is a number of bf16, which is then the one
/// nearest to the sum: if not, the result says nothing.
#[inline(always)]
pub fn bf16_fma_fused(a: u16, b: u16, c: u16) -> (u16, bool) {
    let number = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    let sum = number(a).mul_add(number(b), number(c));
    let bits = sum.to_bits();
    (
        (bits >> 16) as u16,
        (bits & 0xffff == 0) & (sum.abs() <= f32::INFINITY),
    )
}

/// As [`bf16_fma`] without modifiers, in single precision, and whether that holds the product and the sum: if not, the
/// result says nothing.
#[inline(always)]
pub fn bf16_fma_in_single(a: u16, b: u16, c: u16) -> (u16, bool) {
    const LARGE: f32 = f32::from_bits((127 + 126) << 23);
    let number = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    let (a, b, c) = (number(a), number(b), number(c));
    let product = a * b;
    let sum = product + c;
    let virtual_c = sum - product;
    let error = (product - (sum - virtual_c)) + (c - virtual_c);
    let bits = odd32(sum, error).to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let exact = (product.abs() >= f32::MIN_POSITIVE) | (a == 0.0) | (b == 0.0);
    let fits = exact & (product.abs() < LARGE) & (c.abs() < LARGE);
    (rounded as u16, fits)
}

/// `sum + error` rounded to odd in single precision, where `sum` is already the single nearest to it.
#[inline(always)]
fn odd32(sum: f32, error: f32) -> f32 {
    let bits = sum.to_bits();
    let outwards = (error > 0.0) == (sum > 0.0);
    let odd = if outwards {
        bits | 1
    } else {
        bits.wrapping_sub(1)
    };
    let step = ((error > 0.0) | (error < 0.0)) & (bits & 1 == 0);
    f32::from_bits(if step { odd } else { bits })
}

/// `sum + error` rounded to odd in single precision, where `sum` is the double nearest to it.
#[inline(always)]
pub(crate) fn narrow_to_odd(sum: f64, error: f64) -> f32 {
    let nearest = sum as f32;
    let rest = (sum - f64::from(nearest)) + error;
    let bits = nearest.to_bits();
    let outwards = (rest < 0.0) == (bits >> 31 != 0);
    let odd = if outwards {
        bits | 1
    } else {
        bits.wrapping_sub(1)
    };
    let step = ((rest > 0.0) | (rest < 0.0)) & (bits & 1 == 0);
    f32::from_bits(if step { odd } else { bits })
}

/// Integers in the order of the numbers whose bits they are made of, -0 before +0.
#[inline(always)]
fn order(bits: u16) -> i16 {
    let bits = bits as i16;
    bits ^ ((bits >> 15) & i16::MAX)
}

/// Minimum and maximum of one format: a NaN loses against a number unless the name says that it wins; -0 is less than
/// +0.
macro_rules! extrema {
    ($infinity:expr, $result:ident, $ftz:ident, $min:ident, $max:ident, $min_nan:ident, $max_nan:ident) => {
        /// The smaller operand; a NaN loses against a number, and -0 is less than +0 (`min`).
        #[inline(always)]
        pub fn $min(a: u16, b: u16, mode: HalfMode) -> u16 {
            let (a, b) = if mode.ftz { ($ftz(a), $ftz(b)) } else { (a, b) };
            let smaller = if order(b) < order(a) { b } else { a };
            $result(number(a, b, smaller, $infinity), mode)
        }

        /// The larger operand; a NaN loses against a number, and -0 is less than +0 (`max`).
        #[inline(always)]
        pub fn $max(a: u16, b: u16, mode: HalfMode) -> u16 {
            let (a, b) = if mode.ftz { ($ftz(a), $ftz(b)) } else { (a, b) };
            let larger = if order(b) > order(a) { b } else { a };
            $result(number(a, b, larger, $infinity), mode)
        }

        /// The smaller operand, or NaN if one is (`min.NaN`).
        #[inline(always)]
        pub fn $min_nan(a: u16, b: u16, mode: HalfMode) -> u16 {
            let nan = (a & !SIGN > $infinity) | (b & !SIGN > $infinity);
            let result = $min(a, b, mode);
            if nan { $result(NAN_BITS, mode) } else { result }
        }

        /// The larger operand, or NaN if one is (`max.NaN`).
        #[inline(always)]
        pub fn $max_nan(a: u16, b: u16, mode: HalfMode) -> u16 {
            let nan = (a & !SIGN > $infinity) | (b & !SIGN > $infinity);
            let result = $max(a, b, mode);
            if nan { $result(NAN_BITS, mode) } else { result }
        }
    };
}

extrema!(
    F16_INFINITY,
    f16_result,
    f16_ftz,
    f16_min,
    f16_max,
    f16_min_nan,
    f16_max_nan
);
extrema!(
    BF16_INFINITY,
    bf16_result,
    bf16_ftz,
    bf16_min,
    bf16_max,
    bf16_min_nan,
    bf16_max_nan
);

/// `chosen` of two numbers, or the one that is a number, or the canonical NaN.
#[inline(always)]
fn number(a: u16, b: u16, chosen: u16, infinity: u16) -> u16 {
    let (a_nan, b_nan) = (a & !SIGN > infinity, b & !SIGN > infinity);
    let result = if a_nan { b } else { chosen };
    let result = if b_nan { a } else { result };
    if a_nan & b_nan { NAN_BITS } else { result }
}

/// Absolute value: clears the sign, of a NaN too, like the hardware.
#[inline(always)]
pub fn abs(bits: u16) -> u16 {
    bits & !SIGN
}

/// Negation: flips the sign, of a NaN too, like the hardware.
#[inline(always)]
pub fn neg(bits: u16) -> u16 {
    bits ^ SIGN
}

/// Gives `x`, the minimum or maximum of the magnitudes of `a` and `b`, the product of their signs (`.xorsign.abs`).
/// A canonical NaN stays one.
#[inline(always)]
pub fn xor_sign(x: u16, a: u16, b: u16) -> u16 {
    if x == NAN_BITS {
        x
    } else {
        x & !SIGN | (a ^ b) & SIGN
    }
}

/// `ex2.approx.f16`: 2 to the power of a half; the nearest half.
#[inline(always)]
pub fn ex2_f16(bits: u16) -> u16 {
    f32_to_f16(approx::ex2(f16_to_f32(bits)), Rounding::Nearest)
}

/// `tanh.approx.f16`: the half nearest to the hyperbolic tangent.
#[inline(always)]
pub fn tanh_f16(bits: u16) -> u16 {
    f32_to_f16(approx::tanh(f16_to_f32(bits)), Rounding::Nearest)
}

/// `ex2.approx.ftz.bf16`: 2 to the power of a brain float; subnormal results become zero.
#[inline(always)]
pub fn ex2_bf16(bits: u16) -> u16 {
    bf16_ftz(f32_to_bf16(
        approx::ex2(bf16_to_f32(bf16_ftz(bits))),
        Rounding::Nearest,
    ))
}

/// `tanh.approx.bf16`: the brain float nearest to the hyperbolic tangent.
#[inline(always)]
pub fn tanh_bf16(bits: u16) -> u16 {
    f32_to_bf16(approx::tanh(bf16_to_f32(bits)), Rounding::Nearest)
}

/// Shifts of the halves of a word. A loop over them calls an operation in one place, which the compiler then inlines.
const HALVES: [u32; 2] = [0, 16];

/// Applies `op` to both halves of a word.
#[inline(always)]
pub fn packed1(a: u32, op: impl Fn(u16) -> u16) -> u32 {
    let mut result = 0;
    for shift in HALVES {
        result |= u32::from(op((a >> shift) as u16)) << shift;
    }
    result
}

/// Applies `op` to the lower halves of two words and to the upper ones.
#[inline(always)]
pub fn packed2(a: u32, b: u32, op: impl Fn(u16, u16) -> u16) -> u32 {
    let mut result = 0;
    for shift in HALVES {
        result |= u32::from(op((a >> shift) as u16, (b >> shift) as u16)) << shift;
    }
    result
}

/// Applies `op` to the lower halves of three words and to the upper ones.
#[inline(always)]
pub fn packed3(a: u32, b: u32, c: u32, op: impl Fn(u16, u16, u16) -> u16) -> u32 {
    let mut result = 0;
    for shift in HALVES {
        let half = op(
            (a >> shift) as u16,
            (b >> shift) as u16,
            (c >> shift) as u16,
        );
        result |= u32::from(half) << shift;
    }
    result
}
