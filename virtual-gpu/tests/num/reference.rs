//! Exact numbers and correct rounding by search: slow, simple, and nothing like the code under test.

use num_bigint::{BigInt, Sign};
use std::cmp::Ordering;
use virtual_gpu::num::Rounding;

pub const ROUNDINGS: [Rounding; 4] = [
    Rounding::Nearest,
    Rounding::Zero,
    Rounding::Down,
    Rounding::Up,
];

/// `mantissa * 2^exponent`, exactly.
#[derive(Clone, Debug)]
pub struct Dyadic {
    pub mantissa: BigInt,
    pub exponent: i32,
}

impl Dyadic {
    pub fn new(mantissa: impl Into<BigInt>, exponent: i32) -> Self {
        Self {
            mantissa: mantissa.into(),
            exponent,
        }
    }

    /// The exact value of a finite double.
    pub fn of(x: f64) -> Self {
        assert!(x.is_finite());
        let mut exponent = 0;
        let mut y = x.abs();
        while y != y.trunc() {
            y *= 2.0;
            exponent -= 1;
        }
        while y >= 2f64.powi(64) {
            y /= 2.0;
            exponent += 1;
        }
        let mantissa = BigInt::from(y as u64);
        Self {
            mantissa: if x < 0.0 { -mantissa } else { mantissa },
            exponent,
        }
    }

    fn at(&self, exponent: i32) -> BigInt {
        &self.mantissa << (self.exponent - exponent)
    }

    pub fn add(&self, other: &Self) -> Self {
        let exponent = self.exponent.min(other.exponent);
        Self {
            mantissa: self.at(exponent) + other.at(exponent),
            exponent,
        }
    }

    pub fn mul(&self, other: &Self) -> Self {
        Self {
            mantissa: &self.mantissa * &other.mantissa,
            exponent: self.exponent + other.exponent,
        }
    }

    pub fn abs(&self) -> Self {
        Self {
            mantissa: BigInt::from_biguint(Sign::Plus, self.mantissa.magnitude().clone()),
            exponent: self.exponent,
        }
    }

    pub fn compare(&self, other: &Self) -> Ordering {
        let exponent = self.exponent.min(other.exponent);
        self.at(exponent).cmp(&other.at(exponent))
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa.sign() == Sign::NoSign
    }

    pub fn is_negative(&self) -> bool {
        self.mantissa.sign() == Sign::Minus
    }
}

/// A binary format described by its field widths.
#[derive(Clone, Copy)]
pub struct Model {
    pub exponent_bits: u32,
    pub fraction_bits: u32,
}

pub const F16: Model = Model {
    exponent_bits: 5,
    fraction_bits: 10,
};
pub const BF16: Model = Model {
    exponent_bits: 8,
    fraction_bits: 7,
};
pub const F32: Model = Model {
    exponent_bits: 8,
    fraction_bits: 23,
};
pub const F64: Model = Model {
    exponent_bits: 11,
    fraction_bits: 52,
};

impl Model {
    pub fn infinity(self) -> u64 {
        ((1 << self.exponent_bits) - 1) << self.fraction_bits
    }

    fn sign(self) -> u64 {
        1 << (self.exponent_bits + self.fraction_bits)
    }

    pub fn is_nan(self, bits: u64) -> bool {
        bits & (self.sign() - 1) > self.infinity()
    }

    /// The value of non-negative bits; for infinity, the power of two that follows the largest number.
    pub fn value(self, bits: u64) -> Dyadic {
        let field = (bits >> self.fraction_bits) as i32;
        let fraction = bits % (1 << self.fraction_bits);
        let bias = (1 << (self.exponent_bits - 1)) - 1;
        let scale = 1 - bias - self.fraction_bits as i32;
        if field == 0 {
            Dyadic::new(fraction, scale)
        } else {
            Dyadic::new(fraction + (1 << self.fraction_bits), scale + field - 1)
        }
    }

    /// The value of bits that are no NaN and no infinity.
    pub fn signed_value(self, bits: u64) -> Dyadic {
        let value = self.value(bits & (self.sign() - 1));
        if bits & self.sign() != 0 {
            Dyadic {
                mantissa: -value.mantissa,
                ..value
            }
        } else {
            value
        }
    }

    /// Rounds the number whose magnitude `compare` compares candidates with (candidate to number).
    pub fn round_by(
        self,
        negative: bool,
        rounding: Rounding,
        compare: impl Fn(&Dyadic) -> Ordering,
    ) -> u64 {
        let (mut low, mut high) = (0, self.infinity() + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if compare(&self.value(middle)) == Ordering::Greater {
                high = middle
            } else {
                low = middle
            }
        }
        let away = match rounding {
            Rounding::Nearest => false,
            Rounding::Zero => false,
            Rounding::Down => negative,
            Rounding::Up => !negative,
        };
        let magnitude = if low == self.infinity() {
            low - u64::from(rounding != Rounding::Nearest && !away)
        } else if compare(&self.value(low)) == Ordering::Equal {
            low
        } else if rounding == Rounding::Nearest {
            let sum = self.value(low).add(&self.value(low + 1));
            match compare(&Dyadic {
                exponent: sum.exponent - 1,
                ..sum
            }) {
                Ordering::Less => low + 1,
                Ordering::Equal => low + low % 2,
                Ordering::Greater => low,
            }
        } else {
            low + u64::from(away)
        };
        magnitude | if negative { self.sign() } else { 0 }
    }

    /// Rounds an exact number; zero gets the sign that `negative_zero` says.
    pub fn round(self, x: &Dyadic, negative_zero: bool, rounding: Rounding) -> u64 {
        let magnitude = x.abs();
        let negative = if x.is_zero() {
            negative_zero
        } else {
            x.is_negative()
        };
        self.round_by(negative, rounding, |candidate| {
            candidate.compare(&magnitude)
        })
    }
}

/// Whether an exact zero sum of addends with these signs is negative (IEEE 754, 6.3).
pub fn zero_sum_sign(a: bool, b: bool, rounding: Rounding) -> bool {
    if a == b {
        a
    } else {
        rounding == Rounding::Down
    }
}

/// A reproducible stream of random words (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Bits of a single: anything, or a number near one, or an edge of the format.
    pub fn single(&mut self) -> f32 {
        const EDGES: [u32; 14] = [
            0,
            1,
            2,
            0x007f_ffff,
            0x0080_0000,
            0x0080_0001,
            0x3f80_0000,
            0x3f7f_ffff,
            0x3f80_0001,
            0x7f7f_ffff,
            0x7f00_0000,
            0x7f80_0000,
            0x7fc0_0000,
            0x7fff_ffff,
        ];
        let word = self.next();
        let sign = (word as u32) & 0x8000_0000;
        f32::from_bits(match self.below(8) {
            0 => EDGES[self.below(14) as usize] | sign,
            1..=3 => (word as u32) & 0x80ff_ffff | ((96 + self.below(64) as u32) << 23),
            4 => (word as u32) & (0x8000_0000 | 0x01ff_ffff >> self.below(20)),
            5 => (word as u32) & 0xffff_0000,
            _ => word as u32,
        })
    }

    /// Bits of a double: anything, or a number near one, or an edge of the format.
    pub fn double(&mut self) -> f64 {
        let word = self.next();
        let sign = word & (1 << 63);
        f64::from_bits(match self.below(8) {
            0 => {
                let edges = [
                    0,
                    1,
                    (1 << 52) - 1,
                    1 << 52,
                    0x3ff0_0000_0000_0000,
                    0x7fef_ffff_ffff_ffff,
                    0x7ff0 << 48,
                ];
                edges[self.below(7) as usize] | sign
            }
            1..=3 => word & 0x800f_ffff_ffff_ffff | ((1023 - 30 + self.below(60)) << 52),
            4 => word & ((1 << 63) | ((1 << 54) - 1)),
            5 => f64::from(self.single()).to_bits(),
            _ => word,
        })
    }
}
