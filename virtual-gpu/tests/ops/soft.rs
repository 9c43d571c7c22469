//! Floating point by the book: exact numbers of any length, rounded once. Slow, and nothing like the code under test.

use num_bigint::BigUint;

/// A binary format by the widths of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub exponent: u32,
    pub mantissa: u32,
}

pub const F16: Format = Format {
    exponent: 5,
    mantissa: 10,
};
pub const BF16: Format = Format {
    exponent: 8,
    mantissa: 7,
};
pub const TF32: Format = Format {
    exponent: 8,
    mantissa: 10,
};
pub const F32: Format = Format {
    exponent: 8,
    mantissa: 23,
};
pub const F64: Format = Format {
    exponent: 11,
    mantissa: 52,
};

/// Directions of rounding by their PTX names; `Away` is the ties of `.rna`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nearest,
    Zero,
    Down,
    Up,
    Away,
}

/// The directions that most instructions have, with their names.
pub const MODES: [(&str, Mode); 4] = [
    ("rn", Mode::Nearest),
    ("rz", Mode::Zero),
    ("rm", Mode::Down),
    ("rp", Mode::Up),
];

/// What bits stand for: a finite number is `magnitude * 2^exponent`.
#[derive(Clone, Debug)]
pub enum Number {
    Nan,
    Infinity(bool),
    Finite(bool, BigUint, i64),
}

use Number::{Finite, Infinity, Nan};

impl Format {
    pub fn bits(self) -> u32 {
        1 + self.exponent + self.mantissa
    }

    pub fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }

    pub fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.mantissa
    }

    pub fn one(self) -> u64 {
        ((1 << (self.exponent - 1)) - 1) << self.mantissa
    }

    /// The NaN that instructions return.
    pub fn nan(self) -> u64 {
        if self == F64 {
            0xfff8_0000_0000_0000
        } else {
            self.sign() - 1
        }
    }

    pub fn is_nan(self, x: u64) -> bool {
        x & (self.sign() - 1) > self.infinity()
    }

    pub fn negative(self, x: u64) -> bool {
        x & self.sign() != 0
    }

    /// The exponent of the last bit of a subnormal number.
    fn lowest(self) -> i64 {
        2 - (1i64 << (self.exponent - 1)) - i64::from(self.mantissa)
    }

    pub fn flush(self, x: u64) -> u64 {
        if x & self.infinity() == 0 {
            x & self.sign()
        } else {
            x
        }
    }

    pub fn decode(self, x: u64) -> Number {
        let (field, part) = (
            (x & self.infinity()) >> self.mantissa,
            x & ((1 << self.mantissa) - 1),
        );
        let negative = self.negative(x);
        if field == (1 << self.exponent) - 1 {
            return if part == 0 { Infinity(negative) } else { Nan };
        }
        let (magnitude, exponent) = if field == 0 {
            (part, self.lowest())
        } else {
            (part | 1 << self.mantissa, self.lowest() + field as i64 - 1)
        };
        Finite(negative, magnitude.into(), exponent)
    }

    /// `magnitude * 2^exponent`, a little more if `sticky`, rounded. A sticky magnitude must have more bits than the
    /// format.
    pub fn round(
        self,
        negative: bool,
        magnitude: &BigUint,
        exponent: i64,
        sticky: bool,
        mode: Mode,
    ) -> u64 {
        let sign = if negative { self.sign() } else { 0 };
        if magnitude.bits() == 0 {
            return sign;
        }
        let precision = i64::from(self.mantissa) + 1;
        let mut last = (exponent + magnitude.bits() as i64 - precision).max(self.lowest());
        let shift = last - exponent;
        let (mut kept, above_half, half, inexact) = if shift <= 0 {
            (magnitude << (-shift) as u64, false, false, sticky)
        } else {
            let shift = shift as u64;
            let kept = magnitude >> shift;
            let rest = magnitude - (&kept << shift);
            let middle = BigUint::from(1u32) << (shift - 1);
            (
                kept,
                rest > middle || (rest == middle && sticky),
                rest == middle && !sticky,
                rest.bits() > 0 || sticky,
            )
        };
        let up = match mode {
            Mode::Nearest => above_half || (half && kept.bit(0)),
            Mode::Away => above_half || half,
            Mode::Zero => false,
            Mode::Down => inexact && negative,
            Mode::Up => inexact && !negative,
        };
        if up {
            kept += 1u32;
        }
        if kept.bits() as i64 > precision {
            kept >>= 1;
            last += 1;
        }
        let kept = kept.iter_u64_digits().next().unwrap_or(0);
        if kept >> self.mantissa == 0 {
            return sign | kept;
        }
        let field = last - self.lowest() + 1;
        if field >= (1 << self.exponent) - 1 {
            let to_infinity = match mode {
                Mode::Nearest | Mode::Away => true,
                Mode::Zero => false,
                Mode::Down => negative,
                Mode::Up => !negative,
            };
            return sign | (self.infinity() - u64::from(!to_infinity));
        }
        sign | (field as u64) << self.mantissa | kept & ((1 << self.mantissa) - 1)
    }

    /// A number of another format, rounded to this one.
    pub fn round_number(self, x: &Number, mode: Mode) -> u64 {
        match x {
            Nan => self.nan(),
            Infinity(negative) => self.infinity() | if *negative { self.sign() } else { 0 },
            Finite(negative, m, e) => self.round(*negative, m, *e, false, mode),
        }
    }

    pub fn fma(self, a: u64, b: u64, c: u64, mode: Mode) -> u64 {
        let infinity = |negative| self.infinity() | if negative { self.sign() } else { 0 };
        let (a, b, c) = (self.decode(a), self.decode(b), self.decode(c));
        let product = match (a, b) {
            (Nan, _) | (_, Nan) => return self.nan(),
            (Infinity(p), Infinity(q)) => Infinity(p ^ q),
            (Infinity(p), Finite(q, m, _)) | (Finite(p, m, _), Infinity(q)) => {
                if m.bits() == 0 {
                    return self.nan();
                }
                Infinity(p ^ q)
            }
            (Finite(p, m, e), Finite(q, n, f)) => Finite(p ^ q, m * n, e + f),
        };
        match (product, c) {
            (_, Nan) | (Nan, _) => self.nan(),
            (Infinity(p), Infinity(q)) if p != q => self.nan(),
            (Infinity(p), _) | (_, Infinity(p)) => infinity(p),
            (Finite(p, m, e), Finite(q, n, f)) => {
                let low = e.min(f);
                let (m, n) = (m << (e - low) as u64, n << (f - low) as u64);
                let (negative, magnitude) = if p == q {
                    (p, m + n)
                } else if m > n {
                    (p, m - n)
                } else if n > m {
                    (q, n - m)
                } else {
                    (mode == Mode::Down, BigUint::ZERO)
                };
                self.round(negative, &magnitude, low, false, mode)
            }
        }
    }

    pub fn add(self, a: u64, b: u64, mode: Mode) -> u64 {
        self.fma(a, self.one(), b, mode)
    }

    /// The product; its zero has the sign of the product, so nothing is added.
    pub fn mul(self, a: u64, b: u64, mode: Mode) -> u64 {
        match (self.decode(a), self.decode(b)) {
            (Finite(p, m, e), Finite(q, n, f)) => self.round(p ^ q, &(m * n), e + f, false, mode),
            _ => self.fma(a, b, 0, mode),
        }
    }

    pub fn div(self, a: u64, b: u64, mode: Mode) -> u64 {
        let sign = (a ^ b) & self.sign();
        match (self.decode(a), self.decode(b)) {
            (Nan, _) | (_, Nan) | (Infinity(_), Infinity(_)) => self.nan(),
            (Infinity(_), _) => sign | self.infinity(),
            (_, Infinity(_)) => sign,
            (Finite(_, m, e), Finite(_, n, f)) => {
                if n.bits() == 0 {
                    return if m.bits() == 0 {
                        self.nan()
                    } else {
                        sign | self.infinity()
                    };
                }
                // Enough bits for any subnormal divided by any number.
                let shift = 3 * u64::from(self.mantissa) + 8;
                let (m, exponent) = (m << shift, e - f - shift as i64);
                let quotient = &m / &n;
                let sticky = &quotient * &n != m;
                self.round(sign != 0, &quotient, exponent, sticky, mode)
            }
        }
    }

    pub fn sqrt(self, x: u64, mode: Mode) -> u64 {
        match self.decode(x) {
            Finite(_, m, _) if m.bits() == 0 => x,
            Nan | Infinity(true) | Finite(true, ..) => self.nan(),
            Infinity(false) => x,
            Finite(false, m, e) => {
                let shift = 4 * u64::from(self.mantissa) + 8 + (e & 1) as u64;
                let (m, exponent) = (m << shift, (e - shift as i64) / 2);
                let root = m.sqrt();
                let sticky = &root * &root != m;
                self.round(false, &root, exponent, sticky, mode)
            }
        }
    }

    /// Clamps to [0, 1]; NaN becomes 0.
    pub fn saturate(self, x: u64) -> u64 {
        if self.is_nan(x) || self.negative(x) {
            0
        } else {
            x.min(self.one())
        }
    }

    /// Bits in the order of the numbers, -0 before +0.
    fn rank(self, x: u64) -> i128 {
        let magnitude = i128::from(x & (self.sign() - 1));
        if self.negative(x) {
            -magnitude - 1
        } else {
            magnitude
        }
    }

    /// `min` or `max`: a NaN loses, or wins with `.NaN`.
    pub fn extreme(self, a: u64, b: u64, largest: bool, nan_wins: bool) -> u64 {
        match (self.is_nan(a), self.is_nan(b)) {
            (true, true) => self.nan(),
            (true, false) | (false, true) if nan_wins => self.nan(),
            (true, false) => b,
            (false, true) => a,
            _ if (self.rank(a) < self.rank(b)) == largest => b,
            _ => a,
        }
    }

    /// How `a` compares with `b`; zeros are the same, `None` where one is NaN.
    pub fn compare(self, a: u64, b: u64) -> Option<std::cmp::Ordering> {
        if self.is_nan(a) || self.is_nan(b) {
            return None;
        }
        let value = |x: u64| {
            let magnitude = (x & (self.sign() - 1)) as i128;
            if self.negative(x) {
                -magnitude
            } else {
                magnitude
            }
        };
        Some(value(a).cmp(&value(b)))
    }

    /// Rounded to an integral value, as a signed integer; `None` for what is not finite.
    pub fn integral(self, x: u64, mode: Mode) -> Option<(bool, BigUint)> {
        let Finite(negative, m, e) = self.decode(x) else {
            return None;
        };
        if e >= 0 {
            return Some((negative, m << e as u64));
        }
        let shift = (-e) as u64;
        let whole = &m >> shift;
        let rest = &m - (&whole << shift);
        let middle = BigUint::from(1u32) << (shift - 1);
        let up = match mode {
            Mode::Nearest => rest > middle || (rest == middle && whole.bit(0)),
            Mode::Away => rest >= middle,
            Mode::Zero => false,
            Mode::Down => negative && rest.bits() > 0,
            Mode::Up => !negative && rest.bits() > 0,
        };
        Some((negative, if up { whole + 1u32 } else { whole }))
    }
}
