//! Sums with the bits of tensor cores.
//!
//! A group of products and the accumulator are aligned to the largest exponent among them, truncated to a number of
//! fractional bits that depends on the chip, added exactly, and the sum is truncated to single precision or rounded
//! to half precision. Exponents are those of the operands: a product is not normalised first, and a zero has the
//! exponent -126.
//!
//! A product of two operands is exact in double precision, scaling by a power of two too, and so is the sum of at
//! most 33 integers below 2^28, which makes doubles do for the fixed-point adder.

use super::fragment::{Accumulators, Operands};
use super::{Arch, Mma, Unit};
use crate::num::half::{f16_to_f32, f32_to_f16, narrow_to_odd};
use crate::num::{Rounding, ScalarType, float32};

/// The first number beyond single precision.
const TWO_TO_128: f64 = f64::from_bits((1023 + 128) << 52);

/// What distinguishes the adders of the chips.
struct Adder {
    /// Bits below the largest exponent that an addend keeps.
    fraction: f32,
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
    fn new(mma: &Mma, unit: Unit, arch: Arch) -> Self {
        let bytes = mma.a.bytes();
        let group = unit == Unit::Warpgroup;
        let older = matches!(arch, Arch::Ampere | Arch::Ada) && !group;
        // Warpgroups add 8-bit floats with few bits, as Ada does, but all of them at once.
        let short = (older || group) && bytes == 1;
        let half = mma.d == ScalarType::F16;
        Self {
            fraction: match older {
                _ if short => 13.0,
                true => 24.0,
                false => 25.0,
            },
            // A group is 16 bytes of a row: 16, 8 or 4 products.
            halved: older && mma.shape.k * bytes == 32,
            mask: if short { !0x3ff } else { !0 },
            half,
            c_min: smallest_exponent(mma.c),
        }
    }

    /// Sums rounded to the type of the result.
    #[inline(always)]
    fn round(&self, sums: &[f64; 8]) -> [f32; 8] {
        let mut results = [0.0; 8];
        for (result, sum) in results.iter_mut().zip(sums) {
            // Adding zero turns a negative one into a positive one.
            *result = 0.0
                + if self.half {
                    round_to_half(*sum)
                } else {
                    truncate(*sum, self.mask)
                };
        }
        results
    }
}

/// The half nearest to a number.
#[inline(always)]
fn round_to_half(x: f64) -> f32 {
    f16_to_f32(f32_to_f16(narrow_to_odd(x, 0.0), Rounding::Nearest))
}

/// A number truncated to the bits of a single that `mask` keeps.
#[inline(always)]
fn truncate(x: f64, mask: u32) -> f32 {
    let bits = float32::from_f64(x, Rounding::Zero).to_bits() & mask;
    // Truncation stops at the largest number, the adder does not.
    let overflow = x.abs() >= TWO_TO_128;
    f32::from_bits(if overflow {
        (bits & 0x8000_0000) | 0x7f80_0000
    } else {
        bits
    })
}

/// Exponent of the smallest normal number of a type.
fn smallest_exponent(ty: ScalarType) -> i32 {
    match ty {
        ScalarType::F16 | ScalarType::E5M2 => -14,
        ScalarType::E4M3 => -6,
        _ => -126,
    }
}

/// The exponent that the adder sees: of a subnormal number that of its type's smallest normal one. As a single, in
/// which sums are exact and the compiler keeps maxima in the order of the code.
#[inline(always)]
fn exponent(x: f32, smallest: i32) -> f32 {
    let field = ((x.to_bits() >> 23) & 0xff) as i32;
    let exponent = (field - 127).max(smallest);
    (if x == 0.0 { -126 } else { exponent }) as f32
}

/// `2^n` for an integer among the exponents of normal doubles.
#[inline(always)]
fn power(n: f32) -> f64 {
    // Adding 1.5 * 2^23 puts the integer into the low bits.
    let n = (n + 12_582_912.0).to_bits() as i32 - 12_582_912f32.to_bits() as i32;
    f64::from_bits(((1023 + n) as u64) << 52)
}

#[inline(always)]
fn any_special(row: &[f32; 8]) -> bool {
    let mut any = false;
    for x in row {
        any |= x.to_bits() & 0x7f80_0000 == 0x7f80_0000;
    }
    any
}

/// Adds the products to the accumulators as this unit of `arch` does.
///
/// Loops instead of closures and `array::map` throughout: a function that is called, and not inlined, would miss the
/// instruction set of the caller.
#[inline(always)]
pub(super) fn add_products<const K: usize>(
    mma: &Mma,
    (unit, arch): (Unit, Arch),
    operands: &Operands<K>,
    sums: &mut Accumulators,
) {
    let adder = Adder::new(mma, unit, arch);
    let (a_min, b_min) = (smallest_exponent(mma.a), smallest_exponent(mma.b));
    let k = (mma.shape.k as usize).min(K);
    let first = if adder.halved { k / 2 } else { k };
    let (mut b, mut b_exponents, mut b_special) = ([[0.0; 8]; K], [[0.0; 8]; K], false);
    for (l, row) in operands.b[..k].iter().enumerate() {
        for (j, x) in row.iter().enumerate() {
            b[l][j] = f64::from(*x);
            b_exponents[l][j] = exponent(*x, b_min);
        }
        b_special |= any_special(row);
    }
    for (row, c) in operands.a.iter().zip(&mut sums.0) {
        let (mut a_exponents, mut special) = ([0.0; K], b_special);
        let (to, _) = a_exponents.as_chunks_mut::<8>();
        let (from, _) = row.as_chunks::<8>();
        for (to, from) in to.iter_mut().zip(from).take(k.div_ceil(8)) {
            for (to, from) in to.iter_mut().zip(from) {
                *to = exponent(*from, a_min);
            }
            special |= any_special(from);
        }
        for range in [0..first, first..k] {
            if range.is_empty() {
                continue;
            }
            let group = Group {
                a: &row[range.clone()],
                a_exponents: &a_exponents[range.clone()],
                b: &b[range.clone()],
                b_exponents: &b_exponents[range],
            };
            let sum = group.add_to(c, &adder);
            *c = if special | any_special(c) {
                group.with_special(c, sum)
            } else {
                sum
            };
        }
    }
}

/// Operands of the products that a row of accumulators takes at once, with their exponents.
struct Group<'a> {
    a: &'a [f32],
    a_exponents: &'a [f32],
    b: &'a [[f64; 8]],
    b_exponents: &'a [[f32; 8]],
}

impl Group<'_> {
    /// The products and finite accumulators added and rounded.
    #[inline(always)]
    fn add_to(&self, c: &[f32; 8], adder: &Adder) -> [f32; 8] {
        let mut largest = [0.0; 8];
        for (largest, c) in largest.iter_mut().zip(c) {
            *largest = exponent(*c, adder.c_min);
        }
        for (a, b) in self.a_exponents.iter().zip(self.b_exponents) {
            for (largest, b) in largest.iter_mut().zip(b) {
                *largest = if a + b > *largest { a + b } else { *largest };
            }
        }
        let (mut scale, mut sum) = ([0.0; 8], [0.0; 8]);
        for j in 0..8 {
            scale[j] = power(adder.fraction - largest[j]);
            sum[j] += (f64::from(c[j]) * scale[j]).trunc();
        }
        for (a, b) in self.a.iter().zip(self.b) {
            let a = f64::from(*a);
            for ((sum, b), scale) in sum.iter_mut().zip(b).zip(&scale) {
                *sum += (a * b * scale).trunc();
            }
        }
        for (sum, largest) in sum.iter_mut().zip(largest) {
            *sum *= power(largest - adder.fraction);
        }
        adder.round(&sum)
    }

    /// `sums` with infinities and NaN where the operands make them.
    #[cold]
    #[inline(never)]
    fn with_special(&self, c: &[f32; 8], mut sums: [f32; 8]) -> [f32; 8] {
        for (j, sum) in sums.iter_mut().enumerate() {
            let products = self.a.iter().zip(self.b).map(|(a, b)| f64::from(*a) * b[j]);
            let plain = products.fold(f64::from(c[j]), |sum, product| sum + product);
            if !plain.is_finite() {
                *sum = plain as f32;
            }
        }
        sums
    }
}
