//! Sums with the bits of tensor cores.
//!
//! A group of products and the accumulator are aligned to the largest exponent among them, truncated to a number of
//! fractional bits that depends on the chip, added exactly, and the sum is truncated to single precision or rounded to half
//! precision. Exponents are those of the operands: a product is not normalised first, and a zero has the exponent -126.
//!
//! A product of two operands is exact in double precision, scaling by a power of two too, and so is the sum of at most 33
//! integers below 2^28, which makes doubles do for the fixed-point adder.

use super::fragment::{Accumulators, MAX_K, Operands};
use super::{Arch, Mma};
use crate::num::half::{f16_to_f32, f32_to_f16, narrow_to_odd};
use crate::num::{Rounding, ScalarType, float32};
use std::ops::Range;

/// The first number beyond single precision.
const TWO_TO_128: f64 = f64::from_bits((1023 + 128) << 52);

/// What distinguishes the adders of the chips.
struct Adder {
    /// Bits below the largest exponent that an addend keeps.
    fraction: i32,
    /// Whether the products are added in two groups, one after the other.
    halved: bool,
    /// Bits of a single-precision result that are kept.
    mask: u32,
    /// Whether results are half precision.
    half: bool,
    /// Smallest exponent of the accumulator's type.
    c_min: i32,
}

impl Adder {
    #[inline(always)]
    fn new(mma: &Mma, arch: Arch) -> Self {
        let bytes = mma.a.bytes();
        let older = matches!(arch, Arch::Ampere | Arch::Ada);
        let short = older && bytes == 1;
        let half = mma.d == ScalarType::F16;
        Self {
            fraction: match older {
                _ if short => 13,
                true => 24,
                false => 25,
            },
            // A group is 16 bytes of a row: 16, 8 or 4 products.
            halved: older && mma.shape.k * bytes == 32,
            mask: if short { !0x3ff } else { !0 },
            half,
            c_min: smallest_exponent(mma.c),
        }
    }

    /// A sum rounded to the type of the result.
    #[inline(always)]
    fn round(&self, x: f64) -> f32 {
        let result = if self.half {
            f16_to_f32(f32_to_f16(narrow_to_odd(x, 0.0), Rounding::Nearest))
        } else {
            let bits = float32::from_f64(x, Rounding::Zero).to_bits() & self.mask;
            // Truncation stops at the largest number, the adder does not.
            let overflow = x.abs() >= TWO_TO_128;
            f32::from_bits(if overflow {
                (bits & 0x8000_0000) | 0x7f80_0000
            } else {
                bits
            })
        };
        // A negative zero becomes a positive one.
        result + 0.0
    }
}

/// Exponent of the smallest normal number of a type.
fn smallest_exponent(ty: ScalarType) -> i32 {
    match ty {
        ScalarType::F16 | ScalarType::E5M2 => -14,
        ScalarType::E4M3 => -6,
        _ => -126,
    }
}

/// The exponent that the adder sees: of a subnormal number that of its type's smallest normal one.
#[inline(always)]
fn exponent(x: f32, smallest: i32) -> i32 {
    let field = ((x.to_bits() >> 23) & 0xff) as i32;
    let exponent = (field - 127).max(smallest);
    if x == 0.0 { -126 } else { exponent }
}

/// `2^n` for an exponent of normal doubles.
#[inline(always)]
fn power(n: i32) -> f64 {
    f64::from_bits(((1023 + n) as u64) << 52)
}

#[inline(always)]
fn any_special(row: &[f32]) -> bool {
    row.iter().fold(false, |any, x| {
        any | (x.to_bits() & 0x7f80_0000 == 0x7f80_0000)
    })
}

/// Operands with what alignment needs to know of them.
struct Aligned<'a> {
    a: &'a [[f32; MAX_K]; 16],
    a_exponents: [[i32; MAX_K]; 16],
    b: [[f64; 8]; MAX_K],
    b_exponents: [[i32; 8]; MAX_K],
    /// Whether infinities or NaN are among them.
    special: bool,
}

/// Adds the products to the accumulators as `arch` does.
#[inline(always)]
pub(super) fn add_products(mma: &Mma, arch: Arch, operands: &Operands, sums: &mut Accumulators) {
    let adder = Adder::new(mma, arch);
    let (a_min, b_min) = (smallest_exponent(mma.a), smallest_exponent(mma.b));
    let mut aligned = Aligned {
        a: &operands.a,
        a_exponents: [[0; MAX_K]; 16],
        b: [[0.0; 8]; MAX_K],
        b_exponents: [[0; 8]; MAX_K],
        special: any_special(operands.a.as_flattened()) | any_special(operands.b.as_flattened()),
    };
    for (to, from) in aligned
        .a_exponents
        .as_flattened_mut()
        .iter_mut()
        .zip(operands.a.as_flattened())
    {
        *to = exponent(*from, a_min);
    }
    for (to, from) in aligned
        .b_exponents
        .as_flattened_mut()
        .iter_mut()
        .zip(operands.b.as_flattened())
    {
        *to = exponent(*from, b_min);
    }
    for (to, from) in aligned
        .b
        .as_flattened_mut()
        .iter_mut()
        .zip(operands.b.as_flattened())
    {
        *to = f64::from(*from);
    }
    let k = (mma.shape.k as usize).min(MAX_K);
    let first = if adder.halved { k / 2 } else { k };
    for (i, row) in sums.0.iter_mut().enumerate() {
        *row = add_group(&adder, &aligned, i, 0..first, row);
        if adder.halved {
            *row = add_group(&adder, &aligned, i, first..k, row);
        }
    }
}

/// One group of products of row `i` added to a row of accumulators.
#[inline(always)]
fn add_group(
    adder: &Adder,
    operands: &Aligned,
    i: usize,
    group: Range<usize>,
    c: &[f32; 8],
) -> [f32; 8] {
    let a = &operands.a[i][group.clone()];
    let a_exponents = &operands.a_exponents[i][group.clone()];
    let mut largest = c.map(|c| exponent(c, adder.c_min));
    for (a, b) in a_exponents.iter().zip(&operands.b_exponents[group.clone()]) {
        for (largest, b) in largest.iter_mut().zip(b) {
            *largest = (*largest).max(a + b);
        }
    }
    let scale = largest.map(|e| power(adder.fraction - e));
    let mut sum = [0.0; 8];
    for j in 0..8 {
        sum[j] += (f64::from(c[j]) * scale[j]).trunc();
    }
    for (a, b) in a.iter().zip(&operands.b[group.clone()]) {
        let a = f64::from(*a);
        for j in 0..8 {
            sum[j] += (a * b[j] * scale[j]).trunc();
        }
    }
    let mut result = [0.0; 8];
    for j in 0..8 {
        result[j] = adder.round(sum[j] * power(largest[j] - adder.fraction));
    }
    if operands.special | any_special(c) {
        replace_special(operands, i, group, c, &mut result);
    }
    result
}

/// Puts infinities and NaN where the operands make them.
#[cold]
#[inline(never)]
fn replace_special(
    operands: &Aligned,
    i: usize,
    group: Range<usize>,
    c: &[f32; 8],
    result: &mut [f32; 8],
) {
    for j in 0..8 {
        let products = group
            .clone()
            .map(|l| f64::from(operands.a[i][l]) * operands.b[l][j]);
        let plain = products.fold(f64::from(c[j]), |sum, product| sum + product);
        if !plain.is_finite() {
            result[j] = plain as f32;
        }
    }
}
