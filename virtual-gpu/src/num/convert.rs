//! `cvt` and `cvt.pack`: conversions between all scalar types (PTX ISA, "Data Movement and Conversion Instructions:
//! cvt").

use super::float32::{self, canonical};
use super::fp8::{self, Tf32Rounding};
use super::half::{self, packed1};
use super::round::{BF16, F16, F32, F64, Format, Parts};
use super::{Rounding, ScalarType, float64};

/// A `cvt` instruction without its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convert {
    /// Type of the result.
    pub to: ScalarType,
    /// Type of the operand or operands.
    pub from: ScalarType,
    /// Rounding mode; none where the instruction names none, and for `.rna`, which only `.tf32` has.
    pub rounding: Option<Rounding>,
    /// Whether the mode rounds to an integral value (`.rni`, `.rzi`, `.rmi`, `.rpi`).
    pub integral: bool,
    /// `.ftz`: subnormal `.f32` operands and results are zero, sign kept.
    pub ftz: bool,
    /// `.sat`: clamps to the range of an integer, to [0, 1] for a floating-point result.
    pub saturate: bool,
    /// `.relu`: replaces a negative result (-0 included) by +0.
    pub relu: bool,
    /// `.satfinite`: what is too large becomes the largest finite number, infinities too.
    pub satfinite: bool,
}

impl Convert {
    /// Whether PTX has this instruction; if not, a sentence that says which rule it breaks.
    pub fn check(&self) -> Result<(), String> {
        use ScalarType::*;
        let Self { to, from, .. } = *self;
        let require = |holds: bool, rule: &str| {
            if holds {
                Ok(())
            } else {
                Err(format!("cvt from {from:?} to {to:?}: {rule}"))
            }
        };
        let two_way =
            matches!(self.rounding, Some(Rounding::Nearest | Rounding::Zero)) && !self.integral;
        let nearest = self.rounding == Some(Rounding::Nearest) && !self.integral;
        let plain = !self.saturate && !self.ftz;
        match (from, to) {
            (F32, TF32) => {
                require(
                    plain && !self.integral,
                    "takes neither .sat nor .ftz nor an integral rounding",
                )?;
                require(
                    self.rounding.is_none() || two_way,
                    "rounds by .rna, .rn or .rz",
                )?;
                require(
                    self.rounding.is_some() || !self.relu,
                    ".rna does not go with .relu",
                )
            }
            (F32, F16x2 | BF16x2) => {
                require(plain, "takes neither .sat nor .ftz")?;
                require(two_way, "rounds by .rn or .rz")
            }
            (F32 | F16x2 | BF16x2, E4M3x2 | E5M2x2) => {
                require(plain, "takes neither .sat nor .ftz")?;
                require(nearest && self.satfinite, "needs .rn.satfinite")
            }
            (E4M3x2 | E5M2x2, F16x2) => {
                require(
                    plain && !self.satfinite,
                    "takes neither .sat nor .ftz nor .satfinite",
                )?;
                require(nearest, "needs .rn")
            }
            _ => self.check_scalar(require),
        }
    }

    fn check_scalar(
        &self,
        require: impl Fn(bool, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        use ScalarType::*;
        let Self { to, from, .. } = *self;
        let known = |ty| is_integer(ty) || float_format(ty).is_some();
        require(known(from) && known(to), "there is no such conversion")?;
        let clamped = self.relu || self.satfinite;
        require(
            !clamped || (from == F32 && matches!(to, F16 | BF16)),
            ".relu and .satfinite do not go with these types",
        )?;
        let two_way = matches!(self.rounding, Some(Rounding::Nearest | Rounding::Zero));
        require(!clamped || two_way, ".relu and .satfinite need .rn or .rz")?;
        require(
            !clamped || !self.saturate,
            ".sat goes neither with .relu nor with .satfinite",
        )?;
        require(
            !self.ftz || from == F32 || to == F32,
            ".ftz needs an .f32 operand or result",
        )?;
        require(!self.saturate || to != BF16, ".sat does not go with .bf16")?;
        match (float_format(from), float_format(to)) {
            (None, None) => {
                require(self.rounding.is_none(), "takes no rounding")?;
                let ((low, high), (to_low, to_high)) = (range(from), range(to));
                require(
                    !self.saturate || low < to_low || high > to_high,
                    ".sat has nothing to clamp",
                )
            }
            (Some(_), None) => require(
                self.rounding.is_some() && self.integral,
                "needs an integral rounding",
            ),
            (None, Some(_)) => require(
                self.rounding.is_some() && !self.integral,
                "needs a rounding, not an integral one",
            ),
            (Some(_), Some(_)) if from == to => require(
                self.integral == self.rounding.is_some(),
                "rounds to an integral value or not at all",
            ),
            (Some(_), Some(_)) if from.bytes() >= to.bytes() => require(
                self.rounding.is_some() && !self.integral,
                "needs a rounding, not an integral one",
            ),
            (Some(_), Some(_)) => {
                require(self.rounding.is_none(), "is exact and takes no rounding")
            }
        }
    }

    /// The result of a conversion with one operand, scalar or packed, which lies in the low bits of `bits`.
    ///
    /// A signed result is sign-extended and every other one zero-extended to 64 bits, as PTX asks of a destination
    /// register wider than the type. Must have passed [`Convert::check`]; the result for anything else means nothing.
    #[inline]
    pub fn apply(&self, bits: u64) -> u64 {
        use ScalarType::*;
        let rounding = self.rounding.unwrap_or_default();
        match (self.from, self.to) {
            (F32, _) => {
                let x = f32::from_bits(bits as u32);
                self.single(if self.ftz { float32::ftz(x) } else { x }, rounding)
            }
            (F16 | BF16 | F64, _) => {
                let x = match self.from {
                    F16 => half::f16_to_f32(bits as u16).into(),
                    BF16 => half::bf16_to_f32(bits as u16).into(),
                    _ => f64::from_bits(bits),
                };
                self.double(x, rounding)
            }
            (E4M3x2 | E5M2x2, _) => self.unpack(bits as u16).into(),
            (F16x2, _) => packed_bytes(bits as u32, |h| self.byte(half::f16_to_f32(h))).into(),
            (BF16x2, _) => packed_bytes(bits as u32, |h| self.byte(half::bf16_to_f32(h))).into(),
            (from, to) => {
                let value = integer(from, bits);
                match float_format(to) {
                    Some(format) => self.float_of_integer(value, format, rounding),
                    None if self.saturate => {
                        let (low, high) = range(to);
                        integer_bits(to, value.clamp(low, high) as u64)
                    }
                    None => integer_bits(to, value as u64),
                }
            }
        }
    }

    /// Converts two singles and packs them, `a` into the upper half: `.f16x2`, `.bf16x2`, `.e4m3x2` and `.e5m2x2`.
    #[inline]
    pub fn pack(&self, a: f32, b: f32) -> u32 {
        use ScalarType::*;
        let rounding = self.rounding.unwrap_or_default();
        match self.to {
            F16x2 => {
                u32::from(self.round_f16(a, rounding)) << 16
                    | u32::from(self.round_f16(b, rounding))
            }
            BF16x2 => {
                u32::from(self.round_bf16(a, rounding)) << 16
                    | u32::from(self.round_bf16(b, rounding))
            }
            _ => u32::from(self.byte(a)) << 8 | u32::from(self.byte(b)),
        }
    }

    /// Converts two packed 8-bit numbers to two packed halves (`cvt.rn.f16x2.e4m3x2`, `.e5m2x2`), exactly.
    #[inline]
    pub fn unpack(&self, bits: u16) -> u32 {
        let decode = match self.from {
            ScalarType::E4M3x2 => fp8::e4m3_to_f16,
            _ => fp8::e5m2_to_f16,
        };
        let [low, high] = bits.to_le_bytes().map(decode);
        packed1(u32::from(high) << 16 | u32::from(low), |h| {
            if self.relu && h & 0x8000 != 0 { 0 } else { h }
        })
    }

    #[inline]
    fn byte(&self, x: f32) -> u8 {
        match self.to {
            ScalarType::E4M3x2 => fp8::f32_to_e4m3(x, self.relu),
            _ => fp8::f32_to_e5m2(x, self.relu),
        }
    }

    /// `.f16` of a single with `.relu` and `.satfinite`.
    #[inline]
    fn round_f16(&self, x: f32, rounding: Rounding) -> u16 {
        self.limit(half::f32_to_f16(x, rounding), F16)
    }

    /// `.bf16` of a single with `.relu` and `.satfinite`.
    #[inline]
    fn round_bf16(&self, x: f32, rounding: Rounding) -> u16 {
        self.limit(half::f32_to_bf16(x, rounding), BF16)
    }

    #[inline]
    fn limit(&self, bits: u16, format: Format) -> u16 {
        let infinite = u64::from(bits & 0x7fff) == format.infinity();
        let finite = if self.satfinite & infinite {
            bits - 1
        } else {
            bits
        };
        // The canonical NaN is not negative.
        if self.relu & (finite & 0x8000 != 0) {
            0
        } else {
            finite
        }
    }

    #[inline]
    fn single(&self, x: f32, rounding: Rounding) -> u64 {
        use ScalarType::*;
        match self.to {
            F32 => {
                let y = if self.integral {
                    integral32(x, rounding)
                } else {
                    x
                };
                let y = if self.saturate {
                    float32::saturate(y)
                } else {
                    canonical(y)
                };
                y.to_bits().into()
            }
            F16 => {
                let y = self.round_f16(x, rounding);
                (if self.saturate {
                    half::f16_saturate(y)
                } else {
                    y
                })
                .into()
            }
            BF16 => self.round_bf16(x, rounding).into(),
            TF32 => {
                let rounding = match self.rounding {
                    Some(Rounding::Zero) => Tf32Rounding::Zero,
                    Some(_) => Tf32Rounding::Nearest,
                    None => Tf32Rounding::NearestAway,
                };
                fp8::f32_to_tf32(x, rounding, self.relu, self.satfinite)
                    .to_bits()
                    .into()
            }
            S32 => i64::from(integral32(x, rounding) as i32) as u64,
            U32 => u64::from(integral32(x, rounding) as u32),
            _ => self.double(x.into(), rounding),
        }
    }

    #[inline]
    fn double(&self, x: f64, rounding: Rounding) -> u64 {
        use ScalarType::*;
        let y = if self.integral {
            integral64(x, rounding)
        } else {
            x
        };
        match self.to {
            F32 => {
                let y = float32::from_f64(y, rounding);
                let y = if self.ftz { float32::ftz(y) } else { y };
                let y = if self.saturate {
                    float32::saturate(y)
                } else {
                    y
                };
                y.to_bits().into()
            }
            F64 => {
                let y = if self.saturate {
                    float64::saturate(y)
                } else {
                    float64::canonical(y)
                };
                y.to_bits()
            }
            F16 => {
                let y = half::f64_to_f16(y, rounding);
                (if self.saturate {
                    half::f16_saturate(y)
                } else {
                    y
                })
                .into()
            }
            BF16 => half::f64_to_bf16(y, rounding).into(),
            to => self.clamp_integer(y, to),
        }
    }

    /// An integer of an integral value: clamped to the range of the type. NaN becomes 0, but the type's sign bit where
    /// `.f64` or a 64-bit integer takes part.
    #[inline]
    fn clamp_integer(&self, y: f64, to: ScalarType) -> u64 {
        let wide = self.from == ScalarType::F64 || to.bytes() == 8;
        if wide & y.is_nan() {
            return integer_bits(to, 1 << (8 * to.bytes() - 1));
        }
        let (low, high) = range(to);
        // `as` saturates.
        if to.is_signed() {
            (y as i64).clamp(low as i64, high as i64) as u64
        } else {
            (y as u64).min(high as u64)
        }
    }

    #[inline]
    fn float_of_integer(&self, value: i128, format: Format, rounding: Rounding) -> u64 {
        let bits = match (self.to, rounding) {
            // Every integer type fits one of the two, from which the host rounds to nearest.
            (ScalarType::F32, Rounding::Nearest) if value < 0 => {
                (value as i64 as f32).to_bits().into()
            }
            (ScalarType::F32, Rounding::Nearest) => (value as u64 as f32).to_bits().into(),
            _ => {
                let (negative, significand) = (value < 0, value.unsigned_abs());
                format.encode(
                    Parts::Finite {
                        negative,
                        significand,
                        exponent: 0,
                    },
                    rounding,
                )
            }
        };
        match self.to {
            _ if !self.saturate => bits,
            ScalarType::F16 => half::f16_saturate(bits as u16).into(),
            ScalarType::F32 => float32::saturate(f32::from_bits(bits as u32))
                .to_bits()
                .into(),
            _ => float64::saturate(f64::from_bits(bits)).to_bits(),
        }
    }
}

/// `cvt.pack.sat`: clamps `a` and `b` to `to` (`.u8`, `.s8`, `.u16`, `.s16`) and packs them, `a` above `b`. For 8-bit
/// types the low half of `c` becomes the upper half of the result; for 16-bit types `c` does not matter.
pub fn pack_saturated(to: ScalarType, a: i32, b: i32, c: u32) -> u32 {
    let (low, high) = range(to);
    let field = |x: i32| i128::from(x).clamp(low, high) as u32;
    match to.bytes() {
        1 => c << 16 | (field(a) & 0xff) << 8 | field(b) & 0xff,
        _ => field(a) << 16 | field(b) & 0xffff,
    }
}

fn float_format(ty: ScalarType) -> Option<Format> {
    match ty {
        ScalarType::F16 => Some(F16),
        ScalarType::BF16 => Some(BF16),
        ScalarType::F32 => Some(F32),
        ScalarType::F64 => Some(F64),
        _ => None,
    }
}

fn is_integer(ty: ScalarType) -> bool {
    use ScalarType::*;
    matches!(ty, U8 | U16 | U32 | U64 | S8 | S16 | S32 | S64)
}

/// Smallest and largest value of an integer type.
#[inline]
fn range(ty: ScalarType) -> (i128, i128) {
    let bits = 8 * ty.bytes();
    if ty.is_signed() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

/// The value of an integer in the low bits of a register.
#[inline]
fn integer(ty: ScalarType, bits: u64) -> i128 {
    let extended = integer_bits(ty, bits);
    if ty.is_signed() {
        i128::from(extended as i64)
    } else {
        i128::from(extended)
    }
}

/// The low bits of `value` that `ty` has, extended to 64.
#[inline]
fn integer_bits(ty: ScalarType, value: u64) -> u64 {
    use ScalarType::*;
    match ty {
        U8 => u64::from(value as u8),
        U16 => u64::from(value as u16),
        U32 => u64::from(value as u32),
        S8 => i64::from(value as i8) as u64,
        S16 => i64::from(value as i16) as u64,
        S32 => i64::from(value as i32) as u64,
        _ => value,
    }
}

#[inline]
fn integral32(x: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

#[inline]
fn integral64(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// Converts both halves of a word to bytes.
#[inline]
fn packed_bytes(bits: u32, convert: impl Fn(u16) -> u8) -> u32 {
    u32::from(convert((bits >> 16) as u16)) << 8 | u32::from(convert(bits as u16))
}
