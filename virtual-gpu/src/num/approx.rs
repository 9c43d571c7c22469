//! The `.approx` instructions: inside the bounds that the PTX ISA documents, not the bits of a particular GPU.
//!
//! Each function works in double precision and rounds once, which leaves half a unit in the last place and a little;
//! the results are the same on every host. Special operands give what the tables of the PTX ISA say. Flushing of
//! subnormal operands and results (`.ftz`) is the caller's.
//!
//! Because a test must not depend on bits that hardware does not promise, [`perturb`] moves a result by some units in
//! the last place: a test that passes with results moved by the documented error either way is safe on a GPU.

use super::Rounding;
use super::float32::{self, canonical};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, LN_2, LOG2_E};

/// Adding this number to a double of magnitude below 2^51 rounds it to an integer, in the low bits of the sum.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// `ln(2)^n / n!` for n = 1 to 8: the series of (2^f - 1) / f, relative error below 2^-31 for |f| <= 1/2.
const EXP2_SERIES: [f64; 8] = {
    let mut series = [LN_2; 8];
    let mut n = 1;
    while n < 8 {
        series[n] = series[n - 1] * LN_2 / (n + 1) as f64;
        n += 1;
    }
    series
};

/// `2 log2(e) / (2 n + 1)`: the series of log2((1 + s) / (1 - s)) / s in s^2.
const LOG2_SERIES: [f64; 8] = {
    let mut series = [0.0; 8];
    let mut n = 0;
    while n < 8 {
        series[n] = 2.0 * LOG2_E / (2 * n + 1) as f64;
        n += 1;
    }
    series
};

/// `(-1)^n / (2 n + 1)!`: the series of sin(r) / r in r^2.
const SIN_SERIES: [f64; 7] = alternating_factorials(1);

/// `(-1)^n / (2 n)!`: the series of cos(r) in r^2.
const COS_SERIES: [f64; 7] = alternating_factorials(0);

/// The first 31 bits of pi/2, whose product with a 20-bit integer is exact, and what they leave.
const FRAC_PI_2_HIGH: f64 = f64::from_bits(0x3ff9_21fb_5440_0000);
const FRAC_PI_2_LOW: f64 = 6.077_100_506_506_192e-11;

const fn alternating_factorials(first: usize) -> [f64; 7] {
    let mut series = [1.0; 7];
    let mut n = 1;
    while n < 7 {
        let top = 2 * n + first;
        series[n] = -series[n - 1] / (top * (top - 1)) as f64;
        n += 1;
    }
    series
}

/// Evaluates a polynomial by Horner's rule. Without fused operations, so that every host rounds alike and fast.
#[inline(always)]
fn polynomial<const N: usize>(series: &[f64; N], x: f64) -> f64 {
    let mut sum = series[N - 1];
    let mut n = N - 1;
    while n > 0 {
        n -= 1;
        sum = sum * x + series[n];
    }
    sum
}

/// `(2^n, 2^(x - n) - 1)` with n the integer nearest to x; |x| must be below 1000.
#[inline(always)]
fn exp2_parts(x: f64) -> (f64, f64) {
    let shifted = x + ROUND;
    let fraction = x - (shifted - ROUND);
    let scale = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1.0f64.to_bits()));
    (scale, polynomial(&EXP2_SERIES, fraction) * fraction)
}

/// `ex2.approx`: 2 to the power of x.
#[inline(always)]
pub fn ex2(x: f32) -> f32 {
    // Below -200 the result is zero and above 200 infinite; NaN passes the comparisons.
    let wide = f64::from(x);
    let wide = if wide > 200.0 { 200.0 } else { wide };
    let wide = if wide < -200.0 { -200.0 } else { wide };
    let (scale, rest) = exp2_parts(wide);
    canonical((scale + scale * rest) as f32)
}

/// `lg2.approx`: logarithm to base 2; of zero -infinity, of a negative number NaN.
#[inline(always)]
pub fn lg2(x: f32) -> f32 {
    // As doubles all singles but zero are normal. The mantissa is taken between sqrt(1/2) and sqrt(2).
    let bits = f64::from(x).to_bits();
    let offset = bits.wrapping_sub(FRAC_1_SQRT_2.to_bits());
    let exponent = (offset as i64) >> 52;
    let mantissa = f64::from_bits(bits.wrapping_sub((exponent << 52) as u64));
    let exponent = f64::from_bits(ROUND.to_bits().wrapping_add(exponent as u64)) - ROUND;
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let finite = (exponent + s * polynomial(&LOG2_SERIES, s * s)) as f32;
    let positive = if x == f32::INFINITY { x } else { finite };
    let result = if x == 0.0 {
        f32::NEG_INFINITY
    } else {
        positive
    };
    float32::nan_if((x < 0.0) | x.is_nan(), result)
}

/// `sin.approx`: the sine of x in radians; of an infinity NaN.
#[inline]
pub fn sin(x: f32) -> f32 {
    quarter_turns(x, 0)
}

/// `cos.approx`: the cosine of x in radians; of an infinity NaN.
#[inline]
pub fn cos(x: f32) -> f32 {
    quarter_turns(x, 1)
}

/// The sine of `x` and so many quarter turns.
#[inline]
fn quarter_turns(x: f32, turns: u64) -> f32 {
    let mut wide = f64::from(x);
    if wide.abs() >= 1e6 {
        // So far out the bound of the instruction says nothing; the angle is reduced with care all the same.
        wide = wide.sin().atan2(wide.cos());
    }
    let shifted = wide * (1.0 / FRAC_PI_2) + ROUND;
    let count = shifted - ROUND;
    let r = (wide - count * FRAC_PI_2_HIGH) - count * FRAC_PI_2_LOW;
    let square = r * r;
    let quadrant = shifted.to_bits().wrapping_add(turns);
    let sine = r * polynomial(&SIN_SERIES, square);
    let cosine = polynomial(&COS_SERIES, square);
    let value = if quadrant & 1 == 0 { sine } else { cosine };
    let signed = if quadrant & 2 == 0 { value } else { -value };
    canonical(signed as f32)
}

/// `tanh.approx`: hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let wide = f64::from(x).abs();
    // tanh(20) is 1 in single precision; NaN passes the comparison.
    let wide = if wide > 20.0 { 20.0 } else { wide };
    let (scale, rest) = exp2_parts(wide * (2.0 * LOG2_E));
    // e^(2x) - 1: for a small x the scale is 1 and nothing cancels.
    let grown = (scale - 1.0) + scale * rest;
    canonical(float32::copysign(x, (grown / (grown + 2.0)) as f32))
}

/// `rcp.approx`: one over x.
#[inline(always)]
pub fn rcp(x: f32) -> f32 {
    float32::rcp(x, Rounding::Nearest)
}

/// `sqrt.approx`: square root.
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    float32::sqrt(x, Rounding::Nearest)
}

/// `rsqrt.approx`: one over the square root; of -0 -infinity, of a negative number NaN.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    canonical((1.0 / f64::from(x).sqrt()) as f32)
}

/// `div.approx`: the quotient; for 2^126 < |b| < 2^128 zero (NaN if a is infinite), where the reciprocal is lost.
#[inline(always)]
pub fn div_approx(a: f32, b: f32) -> f32 {
    const EDGE: f32 = f32::from_bits((126 + 127) << 23);
    let lost = (b.abs() > EDGE) & (b.abs() < f32::INFINITY);
    canonical(if lost {
        a * float32::copysign(b, 0.0)
    } else {
        a / b
    })
}

/// `div.full`: the quotient over the full range.
#[inline(always)]
pub fn div_full(a: f32, b: f32) -> f32 {
    float32::div(a, b, Rounding::Nearest)
}

/// Moves a result by `ulps` representable numbers away from zero (towards zero if negative), which injects the error
/// that a GPU may have. Zero, infinities and NaN stay, since tables specify them; no finite number becomes one of them
/// and none changes its sign.
pub fn perturb(x: f32, ulps: i32) -> f32 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let magnitude = i64::from(x.abs().to_bits()) + i64::from(ulps);
    let magnitude = magnitude.clamp(1, i64::from(f32::MAX.to_bits())) as u32;
    float32::copysign(x, f32::from_bits(magnitude))
}
