//! Double precision (`.f64`) with every rounding mode of PTX.
//!
//! To nearest is the host's arithmetic. The directed modes, rare in kernels, take the operands apart and compute in
//! 128-bit integers, so that overflow and underflow need no cases of their own. PTX leaves the payload of an `.f64`
//! NaN open; here every result that is not a number is the quiet NaN that CUDA's headers name (`0xfff8000000000000`).

use super::Rounding;
use super::round::{F64, Parts};

/// Bits of the not-a-number that every operation returns.
pub const NAN_BITS: u64 = 0xfff8_0000_0000_0000;

const SIGN: u64 = 1 << 63;

/// Replaces every NaN by the canonical one.
#[inline]
pub fn canonical(x: f64) -> f64 {
    // The test is one of integers: to the compiler any two NaN of arithmetic are the same.
    let bits = x.to_bits();
    let nan = bits & !SIGN > 0x7ff0_0000_0000_0000;
    f64::from_bits(if nan { NAN_BITS } else { bits })
}

/// `a + b`.
#[inline]
pub fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => canonical(a + b),
        _ => directed_sum(decode(a), decode(b), rounding),
    }
}

/// `a * b`.
#[inline]
pub fn mul(a: f64, b: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => canonical(a * b),
        _ => encode(product(decode(a), decode(b)), rounding),
    }
}

/// `a * b + c`, rounded once.
#[inline]
pub fn fma(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => canonical(a.mul_add(b, c)),
        _ => directed_sum(product(decode(a), decode(b)), decode(c), rounding),
    }
}

/// `a / b`.
#[inline]
pub fn div(a: f64, b: f64, rounding: Rounding) -> f64 {
    match (rounding, decode(a), decode(b)) {
        (
            Rounding::Zero | Rounding::Down | Rounding::Up,
            Parts::Finite {
                negative,
                significand,
                exponent,
            },
            Parts::Finite {
                negative: b_negative,
                significand: divisor,
                exponent: b_exponent,
            },
        ) if divisor != 0 => {
            // At least 64 bits of quotient: the dividend is brought to bit 126, the divisor has 53 bits.
            let shift = significand.leading_zeros().saturating_sub(1) % 127;
            let dividend = significand << shift;
            let quotient = (dividend / divisor) | u128::from(!dividend.is_multiple_of(divisor));
            let exponent = exponent - shift as i32 - b_exponent;
            encode(
                Parts::Finite {
                    negative: negative != b_negative,
                    significand: quotient,
                    exponent,
                },
                rounding,
            )
        }
        _ => canonical(a / b),
    }
}

/// Square root; of a negative number other than zero: NaN.
#[inline]
pub fn sqrt(x: f64, rounding: Rounding) -> f64 {
    match (rounding, decode(x)) {
        (
            Rounding::Zero | Rounding::Down | Rounding::Up,
            Parts::Finite {
                negative: false,
                significand,
                exponent,
            },
        ) if significand != 0 => {
            let shift = significand.leading_zeros() - 2;
            let shift = shift + ((exponent - shift as i32) & 1) as u32;
            let radicand = significand << shift;
            let root = radicand.isqrt();
            let significand = root | u128::from(root * root != radicand);
            encode(
                Parts::Finite {
                    negative: false,
                    significand,
                    exponent: (exponent - shift as i32) / 2,
                },
                rounding,
            )
        }
        _ => canonical(x.sqrt()),
    }
}

/// `1 / x`.
#[inline]
pub fn rcp(x: f64, rounding: Rounding) -> f64 {
    div(1.0, x, rounding)
}

/// The smaller operand; a NaN loses against a number, and -0 is less than +0 (`min`).
#[inline]
pub fn min(a: f64, b: f64) -> f64 {
    let smaller = if order(b) < order(a) { b } else { a };
    let number = if a.is_nan() { b } else { smaller };
    canonical(if b.is_nan() { a } else { number })
}

/// The larger operand; a NaN loses against a number, and -0 is less than +0 (`max`).
#[inline]
pub fn max(a: f64, b: f64) -> f64 {
    let larger = if order(b) > order(a) { b } else { a };
    let number = if a.is_nan() { b } else { larger };
    canonical(if b.is_nan() { a } else { number })
}

/// Clamps to [0, 1]; NaN and -0 become +0 (`.sat`).
#[inline]
pub fn saturate(x: f64) -> f64 {
    let positive = if x > 0.0 { x } else { 0.0 };
    if positive > 1.0 { 1.0 } else { positive }
}

/// `magnitude` with the sign of `sign`, which is also the first operand of the PTX instruction.
#[inline]
pub fn copysign(sign: f64, magnitude: f64) -> f64 {
    f64::from_bits(sign.to_bits() & SIGN | magnitude.to_bits() & !SIGN)
}

fn decode(x: f64) -> Parts {
    F64.decode(x.to_bits())
}

fn encode(parts: Parts, rounding: Rounding) -> f64 {
    f64::from_bits(F64.encode(parts, rounding))
}

/// Integers in the order of the numbers whose bits they are made of, -0 before +0.
#[inline]
fn order(x: f64) -> i64 {
    let bits = x.to_bits() as i64;
    bits ^ ((bits >> 63) & i64::MAX)
}

/// The exact product of two numbers.
fn product(a: Parts, b: Parts) -> Parts {
    use Parts::{Finite, Infinite, Nan};
    match (a, b) {
        (Nan, _) | (_, Nan) => Nan,
        (Infinite { .. }, Finite { significand: 0, .. })
        | (Finite { significand: 0, .. }, Infinite { .. }) => Nan,
        (Infinite { negative: a }, Infinite { negative: b } | Finite { negative: b, .. })
        | (Finite { negative: a, .. }, Infinite { negative: b }) => Infinite { negative: a != b },
        (
            Finite {
                negative: a,
                significand: x,
                exponent: i,
            },
            Finite {
                negative: b,
                significand: y,
                exponent: j,
            },
        ) => Finite {
            negative: a != b,
            significand: x * y,
            exponent: i + j,
        },
    }
}

/// The sum of two numbers of at most 106 bits, rounded in a directed mode.
fn directed_sum(a: Parts, b: Parts, rounding: Rounding) -> f64 {
    use Parts::{Finite, Infinite, Nan};
    let sum = match (a, b) {
        (Nan, _) | (_, Nan) => Nan,
        (Infinite { negative }, Infinite { negative: other }) if negative != other => Nan,
        (infinite @ Infinite { .. }, _) | (_, infinite @ Infinite { .. }) => infinite,
        (
            Finite {
                negative: a,
                significand: x,
                exponent: i,
            },
            Finite {
                negative: b,
                significand: y,
                exponent: j,
            },
        ) => {
            if x == 0 && y == 0 {
                let negative = if rounding == Rounding::Down {
                    a || b
                } else {
                    a && b
                };
                return encode(
                    Finite {
                        negative,
                        significand: 0,
                        exponent: 0,
                    },
                    rounding,
                );
            }
            let (negative, significand, exponent) = add_finite((a, x, i), (b, y, j));
            let negative = if significand == 0 {
                rounding == Rounding::Down
            } else {
                negative
            };
            Finite {
                negative,
                significand,
                exponent,
            }
        }
    };
    encode(sum, rounding)
}

/// The sum of two signed numbers, not both zero; bits that fall off the low end leave a one in the last place.
fn add_finite(a: (bool, u128, i32), b: (bool, u128, i32)) -> (bool, u128, i32) {
    // The operand with the higher top bit goes to bit 126, which leaves at least 20 bits below it.
    let top = |(_, significand, exponent): (bool, u128, i32)| {
        if significand == 0 {
            i32::MIN
        } else {
            exponent + 127 - significand.leading_zeros() as i32
        }
    };
    let (large, small) = if top(a) >= top(b) { (a, b) } else { (b, a) };
    let shift = large.1.leading_zeros() as i32 - 1;
    let exponent = large.2 - shift;
    let x = large.1 << shift;
    let y = match small.2 - exponent {
        _ if small.1 == 0 => 0,
        up @ 0.. => small.1 << up,
        down @ -127..0 => small.1 >> -down | u128::from(small.1 & ((1 << -down) - 1) != 0),
        _ => 1,
    };
    if large.0 == small.0 {
        (large.0, x + y, exponent)
    } else {
        (large.0 ^ (y > x), x.abs_diff(y), exponent)
    }
}
