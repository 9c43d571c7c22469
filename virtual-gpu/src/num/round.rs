//! Binary floating-point formats as parameters, and the one exact rounding step that slow paths share.

use super::Rounding;

/// An IEEE-like binary format that fits 64 bits: sign, exponent, fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// All bits.
    width: u32,
    /// Bits of the fraction, without the hidden one.
    fraction: u32,
    /// Bits of the not-a-number that operations return.
    nan: u64,
}

pub(crate) const F16: Format = Format {
    width: 16,
    fraction: 10,
    nan: 0x7fff,
};
pub(crate) const BF16: Format = Format {
    width: 16,
    fraction: 7,
    nan: 0x7fff,
};
pub(crate) const F32: Format = Format {
    width: 32,
    fraction: 23,
    nan: 0x7fff_ffff,
};
pub(crate) const F64: Format = Format {
    width: 64,
    fraction: 52,
    nan: super::float64::NAN_BITS,
};

/// A value taken apart: `significand * 2^exponent` with a sign, or one of the special ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    Nan,
    Infinite {
        negative: bool,
    },
    /// Zero has significand 0 and keeps its sign.
    Finite {
        negative: bool,
        significand: u128,
        exponent: i32,
    },
}

impl Format {
    const fn bias(self) -> i32 {
        (1 << (self.width - self.fraction - 2)) - 1
    }

    const fn sign(self, negative: bool) -> u64 {
        (negative as u64) << (self.width - 1)
    }

    /// Bits of positive infinity, one above the largest finite value.
    pub(crate) const fn infinity(self) -> u64 {
        ((1 << (self.width - 1)) - 1) & !((1 << self.fraction) - 1)
    }

    /// Takes apart the low bits of `bits`.
    pub(crate) fn decode(self, bits: u64) -> Parts {
        let negative = (bits >> (self.width - 1)) & 1 != 0;
        let magnitude = bits & ((1 << (self.width - 1)) - 1);
        if magnitude > self.infinity() {
            return Parts::Nan;
        }
        if magnitude == self.infinity() {
            return Parts::Infinite { negative };
        }
        let field = (magnitude >> self.fraction) as i32;
        let fraction = magnitude & ((1 << self.fraction) - 1);
        let hidden = u64::from(field != 0) << self.fraction;
        Parts::Finite {
            negative,
            significand: u128::from(fraction | hidden),
            exponent: field.max(1) - self.bias() - self.fraction as i32,
        }
    }

    /// The bits nearest to `parts` in the sense of `rounding`. A significand that lost low bits before must have its
    /// last bit set and at least two bits more than this format keeps.
    pub(crate) fn encode(self, parts: Parts, rounding: Rounding) -> u64 {
        let (negative, significand, exponent) = match parts {
            Parts::Nan => return self.nan,
            Parts::Infinite { negative } => return self.sign(negative) | self.infinity(),
            Parts::Finite {
                negative,
                significand: 0,
                ..
            } => return self.sign(negative),
            Parts::Finite {
                negative,
                significand,
                exponent,
            } => (negative, significand, exponent),
        };
        let smallest = 1 - self.bias();
        let top = exponent + 127 - significand.leading_zeros() as i32;
        let quantum = top.max(smallest) - self.fraction as i32;
        let shift = quantum - exponent;
        let (kept, half_or_more, inexact, tie) = match shift {
            ..=0 => ((significand << -shift) as u64, false, false, false),
            1..=127 => {
                let rest = significand & ((1 << shift) - 1);
                let half = 1u128 << (shift - 1);
                (
                    (significand >> shift) as u64,
                    rest >= half,
                    rest != 0,
                    rest == half,
                )
            }
            128 => (0, significand >> 127 != 0, true, significand == 1 << 127),
            _ => (0, false, true, false),
        };
        let up = match rounding {
            Rounding::Nearest => half_or_more && !(tie && kept & 1 == 0),
            Rounding::Zero => false,
            Rounding::Down => inexact && negative,
            Rounding::Up => inexact && !negative,
        };
        // The hidden bit of `kept` adds one to the exponent field, and so does a carry out of the fraction.
        let field = (top.max(smallest) - smallest) as u64;
        let magnitude = if field >= 2 * self.bias() as u64 {
            u64::MAX
        } else {
            (field << self.fraction) + kept + u64::from(up)
        };
        let magnitude = if magnitude < self.infinity() {
            magnitude
        } else {
            let to_infinity = match rounding {
                Rounding::Nearest => true,
                Rounding::Zero => false,
                Rounding::Down => negative,
                Rounding::Up => !negative,
            };
            self.infinity() - u64::from(!to_infinity)
        };
        self.sign(negative) | magnitude
    }
}
