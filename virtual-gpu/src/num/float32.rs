//! Single precision (`.f32`) with every rounding mode of PTX.
//!
//! Results are canonical. Flushing of subnormal operands and results (`.ftz`) is the caller's: it knows the
//! instruction. Directed rounding goes through `f64`: the exact result is a double and an error term, the pair is
//! rounded to odd, which keeps enough to round once more in any direction (Boldo and Melquiond, "Emulation of FMA and
//! correctly rounded sums: proved algorithms using rounding to odd").

use super::Rounding;

/// Bits of the not-a-number that every operation returns.
pub const NAN_BITS: u32 = 0x7fff_ffff;

const SIGN: u32 = 0x8000_0000;

/// Replaces a subnormal number by zero of the same sign.
#[inline(always)]
pub fn ftz(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 {
        bits & SIGN
    } else {
        bits
    })
}

/// Replaces every NaN by the canonical one.
#[inline(always)]
pub fn canonical(x: f32) -> f32 {
    // The test is one of integers: to the compiler any two NaN of arithmetic are the same, and it did fold
    // `is_nan() ? NAN : x` to the NaN of the host's operation.
    nan_if(x.to_bits() & !SIGN > 0x7f80_0000, x)
}

/// As `canonical`, for a result that is NaN wherever `operand` is: one comparison of both is cheaper, and nothing that
/// the compiler takes for the identity.
#[inline(always)]
fn canonical_of(x: f32, operand: f32) -> f32 {
    nan_if(x.is_nan() | operand.is_nan(), x)
}

/// The canonical NaN if `nan`, else `x`.
#[inline(always)]
pub(crate) fn nan_if(nan: bool, x: f32) -> f32 {
    f32::from_bits(if nan { NAN_BITS } else { x.to_bits() })
}

/// `a + b`.
#[inline(always)]
pub fn add(a: f32, b: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Nearest => canonical_of(a + b, a),
        _ => canonical(directed_sum(a.into(), b.into(), rounding)),
    }
}

/// `a * b`.
#[inline(always)]
pub fn mul(a: f32, b: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Nearest => canonical_of(a * b, a),
        // 48 bits of product fit a double.
        _ => canonical(from_f64(f64::from(a) * f64::from(b), rounding)),
    }
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Nearest => canonical_of(a.mul_add(b, c), a),
        _ => canonical(directed_sum(
            f64::from(a) * f64::from(b),
            c.into(),
            rounding,
        )),
    }
}

/// `a / b`.
#[inline(always)]
pub fn div(a: f32, b: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::Nearest {
        return canonical(a / b);
    }
    let (a, b) = (f64::from(a), f64::from(b));
    let quotient = a / b;
    let remainder = (-quotient).mul_add(b, a);
    canonical(from_f64(to_odd(quotient, remainder * b.signum()), rounding))
}

/// Square root; of a negative number other than zero: NaN.
#[inline(always)]
pub fn sqrt(x: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::Nearest {
        return canonical(x.sqrt());
    }
    let x = f64::from(x);
    let root = x.sqrt();
    canonical(from_f64(to_odd(root, (-root).mul_add(root, x)), rounding))
}

/// `1 / x`.
#[inline(always)]
pub fn rcp(x: f32, rounding: Rounding) -> f32 {
    div(1.0, x, rounding)
}

/// The smaller operand; a NaN loses against a number, and -0 is less than +0 (`min`).
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    number_of(a, b, if a < b { a } else { b }, a.to_bits() | b.to_bits())
}

/// The larger operand; a NaN loses against a number, and -0 is less than +0 (`max`).
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    number_of(a, b, if a > b { a } else { b }, a.to_bits() & b.to_bits())
}

/// `chosen` of two numbers, `equal` where they are equal, or the one that is a number.
#[inline(always)]
fn number_of(a: f32, b: f32, chosen: f32, equal: u32) -> f32 {
    // Equal numbers have the same bits, or are zeros.
    let chosen = if a == b {
        f32::from_bits(equal)
    } else {
        chosen
    };
    // The choice is `b` where `a` is none.
    let number = if b.is_nan() { a } else { chosen };
    nan_if(a.is_nan() & b.is_nan(), number)
}

/// The smaller operand, or NaN if one is (`min.NaN`).
#[inline(always)]
pub fn min_nan(a: f32, b: f32) -> f32 {
    let smaller = if order(b) < order(a) { b } else { a };
    nan_if(a.is_nan() | b.is_nan(), smaller)
}

/// The larger operand, or NaN if one is (`max.NaN`).
#[inline(always)]
pub fn max_nan(a: f32, b: f32) -> f32 {
    let larger = if order(b) > order(a) { b } else { a };
    nan_if(a.is_nan() | b.is_nan(), larger)
}

/// Clamps to [0, 1]; NaN and -0 become +0 (`.sat`).
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    if positive > 1.0 { 1.0 } else { positive }
}

/// `magnitude` with the sign of `sign`, which is also the first operand of the PTX instruction.
#[inline(always)]
pub fn copysign(sign: f32, magnitude: f32) -> f32 {
    f32::from_bits(sign.to_bits() & SIGN | magnitude.to_bits() & !SIGN)
}

/// Gives `x`, the minimum or maximum of the magnitudes of `a` and `b`, the product of their signs (`.xorsign.abs`).
#[inline(always)]
pub fn xor_sign(x: f32, a: f32, b: f32) -> f32 {
    canonical(f32::from_bits(
        x.to_bits() & !SIGN | (a.to_bits() ^ b.to_bits()) & SIGN,
    ))
}

/// A function of both halves of 64 bits (`.f32x2`).
#[inline(always)]
pub fn pair2(a: u64, b: u64, f: impl Fn(f32, f32) -> f32) -> u64 {
    let half = |shift: u32| f(half_of(a, shift), half_of(b, shift)).to_bits();
    u64::from(half(0)) | u64::from(half(32)) << 32
}

/// The same of three.
#[inline(always)]
pub fn pair3(a: u64, b: u64, c: u64, f: impl Fn(f32, f32, f32) -> f32) -> u64 {
    let half = |shift: u32| {
        let (a, b, c) = (half_of(a, shift), half_of(b, shift), half_of(c, shift));
        f(a, b, c).to_bits()
    };
    u64::from(half(0)) | u64::from(half(32)) << 32
}

#[inline(always)]
fn half_of(x: u64, shift: u32) -> f32 {
    f32::from_bits((x >> shift) as u32)
}

/// A double rounded to single precision (`cvt.f32.f64`).
#[inline(always)]
pub fn from_f64(x: f64, rounding: Rounding) -> f32 {
    let nearest = x as f32;
    let back = f64::from(nearest);
    let bits = nearest.to_bits();
    let negative = bits & SIGN != 0;
    let (wrong, away) = match rounding {
        Rounding::Nearest => (false, false),
        Rounding::Zero => (back.abs() > x.abs(), false),
        Rounding::Down => (back > x, negative),
        Rounding::Up => (back < x, !negative),
    };
    let step = if away { 1u32 } else { u32::MAX };
    canonical(f32::from_bits(bits.wrapping_add(if wrong {
        step
    } else {
        0
    })))
}

/// Integers in the order of the numbers whose bits they are made of, -0 before +0.
#[inline(always)]
fn order(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

/// `p + c` in a directed mode; `p` may be an exact product.
#[inline(always)]
fn directed_sum(p: f64, c: f64, rounding: Rounding) -> f32 {
    let sum = p + c;
    let virtual_c = sum - p;
    let error = (p - (sum - virtual_c)) + (c - virtual_c);
    let rounded = from_f64(to_odd(sum, error), rounding);
    // An exact zero is negative downwards unless both addends are +0.
    let negative_zero =
        (sum == 0.0) & (rounding == Rounding::Down) & (p.is_sign_negative() | c.is_sign_negative());
    if negative_zero { -0.0 } else { rounded }
}

/// `sum + error` rounded to odd, where `sum` is already the double nearest to it. An error of NaN (the sum is not
/// finite) counts as none.
#[inline(always)]
pub(crate) fn to_odd(sum: f64, error: f64) -> f64 {
    let bits = sum.to_bits();
    let outwards = (error > 0.0) == (sum > 0.0);
    let odd = if outwards {
        bits | 1
    } else {
        bits.wrapping_sub(1)
    };
    let step = ((error > 0.0) | (error < 0.0)) & (bits & 1 == 0);
    f64::from_bits(if step { odd } else { bits })
}
