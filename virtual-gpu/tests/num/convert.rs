//! `cvt` between all scalar types against exact arithmetic, packed forms against the scalar ones.

use crate::reference::{self, Dyadic, Model, ROUNDINGS, Random};
use num_bigint::BigInt;
use virtual_gpu::num::ScalarType::*;
use virtual_gpu::num::{Convert, Rounding, ScalarType, fp8, half, pack_saturated};

const INTEGERS: [ScalarType; 8] = [U8, U16, U32, U64, S8, S16, S32, S64];
const FLOATS: [ScalarType; 4] = [F16, BF16, F32, F64];

fn convert(to: ScalarType, from: ScalarType) -> Convert {
    Convert {
        to,
        from,
        rounding: None,
        integral: false,
        ftz: false,
        saturate: false,
        relu: false,
        satfinite: false,
    }
}

fn model(ty: ScalarType) -> Option<Model> {
    match ty {
        F16 => Some(reference::F16),
        BF16 => Some(reference::BF16),
        F32 => Some(reference::F32),
        F64 => Some(reference::F64),
        _ => None,
    }
}

/// What a register holds.
#[derive(Clone, Debug)]
enum Value {
    Nan,
    Infinite(bool),
    /// A number, and whether it is negative, zero included.
    Number(Dyadic, bool),
}

fn value(ty: ScalarType, bits: u64) -> Value {
    let bits = if ty.bytes() == 8 {
        bits
    } else {
        bits % (1 << (8 * ty.bytes()))
    };
    let negative = bits >> (8 * ty.bytes() - 1) != 0;
    let Some(model) = model(ty) else {
        let mut integer = BigInt::from(bits);
        if ty.is_signed() && negative {
            integer -= BigInt::from(1) << (8 * ty.bytes());
        }
        return Value::Number(Dyadic::new(integer, 0), ty.is_signed() && negative);
    };
    let magnitude = bits & !(u64::from(negative) << (8 * ty.bytes() - 1));
    match magnitude {
        _ if model.is_nan(bits) => Value::Nan,
        _ if magnitude == model.infinity() => Value::Infinite(negative),
        _ => Value::Number(model.signed_value(bits), negative),
    }
}

/// The integer that a mode picks.
fn integral(x: &Dyadic, rounding: Rounding) -> BigInt {
    if x.exponent >= 0 {
        return &x.mantissa << x.exponent;
    }
    // Shifting right rounds down.
    let floor: BigInt = &x.mantissa >> -x.exponent;
    let rest = &x.mantissa - (&floor << -x.exponent);
    let half = BigInt::from(1) << (-x.exponent - 1);
    let up = match rounding {
        Rounding::Down => false,
        Rounding::Up => rest > BigInt::ZERO,
        Rounding::Zero => rest > BigInt::ZERO && x.is_negative(),
        Rounding::Nearest => rest > half || (rest == half && floor.bit(0)),
    };
    floor + i32::from(up)
}

fn limits(ty: ScalarType) -> (BigInt, BigInt) {
    let bits = 8 * ty.bytes();
    let one = BigInt::from(1);
    if ty.is_signed() {
        (-(&one << (bits - 1)), (&one << (bits - 1)) - 1)
    } else {
        (BigInt::ZERO, (&one << bits) - 1)
    }
}

/// The low 64 bits of an integer in two's complement.
fn wrap(x: &BigInt) -> u64 {
    let modulus = BigInt::from(1) << 64;
    let wrapped: BigInt = ((x % &modulus) + &modulus) % &modulus;
    wrapped.try_into().unwrap()
}

fn want(c: &Convert, bits: u64) -> u64 {
    let rounding = c.rounding.unwrap_or_default();
    let mut x = value(c.from, bits);
    if let (true, F32, Value::Number(number, negative)) = (c.ftz, c.from, &x)
        && number
            .abs()
            .compare(&reference::F32.value(0x0080_0000))
            .is_lt()
    {
        x = Value::Number(Dyadic::new(0, 0), *negative);
    }
    if let (true, Value::Number(number, negative)) = (c.integral, &x) {
        x = Value::Number(Dyadic::new(integral(number, rounding), 0), *negative);
    }
    let Some(model) = model(c.to) else {
        let (low, high) = limits(c.to);
        let integer = match x {
            Value::Nan if c.from == F64 || c.to.bytes() == 8 => return top_bit(c.to),
            Value::Nan => BigInt::ZERO,
            Value::Infinite(true) => low,
            Value::Infinite(false) => high,
            Value::Number(number, _) => {
                let integer = &number.mantissa << number.exponent;
                if model_of_source(c) || c.saturate {
                    integer.clamp(low, high)
                } else {
                    truncate(c.to, integer)
                }
            }
        };
        return wrap(&integer);
    };
    let bytes = c.to.bytes();
    let sign = 1u64 << (8 * bytes - 1);
    let one = model.round(&Dyadic::new(1, 0), false, Rounding::Nearest);
    let result = match x {
        Value::Nan if c.saturate => 0,
        Value::Nan => {
            [0x7fff, 0x7fff_ffff, 0xfff8_0000_0000_0000][bytes.trailing_zeros() as usize - 1]
        }
        Value::Infinite(negative) => model.infinity() | if negative { sign } else { 0 },
        Value::Number(number, negative) => model.round(&number, negative, rounding),
    };
    let result = if c.ftz && c.to == F32 && result & model.infinity() == 0 {
        result & sign
    } else {
        result
    };
    match c.saturate {
        true if result & sign != 0 => 0,
        true => result.min(one),
        false => result,
    }
}

fn model_of_source(c: &Convert) -> bool {
    model(c.from).is_some()
}

fn top_bit(ty: ScalarType) -> u64 {
    let bit = 1u64 << (8 * ty.bytes() - 1);
    if ty.is_signed() {
        bit.wrapping_neg()
    } else {
        bit
    }
}

/// The low bits of an integer, read as the type.
fn truncate(ty: ScalarType, x: BigInt) -> BigInt {
    let modulus = BigInt::from(1) << (8 * ty.bytes());
    let low = ((x % &modulus) + &modulus) % &modulus;
    if ty.is_signed() && low.bit(u64::from(8 * ty.bytes() - 1)) {
        low - modulus
    } else {
        low
    }
}

fn register(ty: ScalarType, random: &mut Random) -> u64 {
    match ty {
        // A whole number, a half between two, or something near.
        F32 | F64 if random.below(2) == 0 => {
            let integer = (random.next() as i64) >> random.below(64);
            let x = integer as f64 * 0.5;
            if ty == F32 {
                (x as f32).to_bits().into()
            } else {
                x.to_bits().wrapping_add(random.below(3))
            }
        }
        F32 => u64::from(random.single().to_bits()) | random.next() << 32,
        F64 => random.double().to_bits(),
        _ if model(ty).is_some() => random.next(),
        _ => {
            let word = random.next();
            let edge = 1u64
                .wrapping_shl(random.below(64) as u32)
                .wrapping_sub(random.below(2));
            [word, ((word as i64) >> random.below(64)) as u64, edge][random.below(3) as usize]
        }
    }
}

/// All instructions without `.relu` and `.satfinite` that PTX has.
fn instructions() -> Vec<Convert> {
    let mut all = Vec::new();
    for from in INTEGERS.into_iter().chain(FLOATS) {
        for to in INTEGERS.into_iter().chain(FLOATS) {
            for rounding in [None].into_iter().chain(ROUNDINGS.map(Some)) {
                for flags in 0..8 {
                    let (integral, ftz, saturate) =
                        (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                    let c = Convert {
                        rounding,
                        integral,
                        ftz,
                        saturate,
                        ..convert(to, from)
                    };
                    if c.check().is_ok() {
                        all.push(c);
                    }
                }
            }
        }
    }
    all
}

#[test]
fn scalars_convert_exactly() {
    let mut random = Random(8);
    let all = instructions();
    assert!(all.len() > 500, "{}", all.len());
    for c in &all {
        for _ in 0..150 {
            let bits = register(c.from, &mut random);
            let (got, want) = (c.apply(bits), want(c, bits));
            assert_eq!(
                got, want,
                "{c:?} of {bits:#x}: got {got:#x}, want {want:#x}"
            );
        }
    }
}

#[test]
fn all_16_bit_values_convert_exactly() {
    for c in instructions() {
        let small = |ty: ScalarType| ty.bytes() <= 2;
        let representative = c.rounding.is_none() || c.rounding == Some(Rounding::Nearest);
        if !small(c.from)
            || !representative
            || c.ftz
            || !matches!(c.to, S8 | U16 | S32 | F16 | BF16 | F32)
        {
            continue;
        }
        // Every 7th value, from an offset that differs between instructions, still covers each format.
        for bits in (0..=0xffffu64).skip(c.to as usize % 7).step_by(7) {
            let (got, want) = (c.apply(bits), want(&c, bits));
            assert_eq!(
                got, want,
                "{c:?} of {bits:#x}: got {got:#x}, want {want:#x}"
            );
        }
    }
}

#[test]
fn nan_becomes_what_the_isa_says() {
    let zero = Some(Rounding::Zero);
    for (to, from, want) in [
        (S32, F32, 0u64),
        (U8, F16, 0),
        (S64, F32, 1 << 63),
        (U64, BF16, 1 << 63),
        (U32, F64, 0x8000_0000),
        (S32, F64, 0xffff_ffff_8000_0000),
    ] {
        let nan = match from {
            F64 => f64::NAN.to_bits(),
            F32 => f32::NAN.to_bits().into(),
            _ => 0x7fff,
        };
        assert_eq!(
            Convert {
                rounding: zero,
                integral: true,
                ..convert(to, from)
            }
            .apply(nan),
            want,
            "{from:?} {to:?}"
        );
    }
}

#[test]
fn impossible_instructions_are_refused() {
    let nearest = Some(Rounding::Nearest);
    let bad = [
        convert(S32, F32),
        Convert {
            rounding: nearest,
            ..convert(S32, F32)
        },
        convert(F32, S32),
        Convert {
            rounding: nearest,
            integral: true,
            ..convert(F32, S32)
        },
        convert(F16, F32),
        Convert {
            rounding: nearest,
            ..convert(F64, F32)
        },
        Convert {
            saturate: true,
            ..convert(S32, S16)
        },
        Convert {
            ftz: true,
            ..convert(F64, F16)
        },
        Convert {
            rounding: nearest,
            ..convert(E4M3x2, F32)
        },
        Convert {
            rounding: Some(Rounding::Up),
            ..convert(F16x2, F32)
        },
        Convert {
            rounding: Some(Rounding::Up),
            ..convert(TF32, F32)
        },
        convert(B32, S32),
        convert(Pred, S32),
        Convert {
            relu: true,
            ..convert(S16, S32)
        },
        Convert {
            rounding: nearest,
            saturate: true,
            ..convert(BF16, F32)
        },
    ];
    for c in bad {
        let message = c.check().expect_err(&format!("{c:?}"));
        assert!(message.starts_with("cvt from"), "{message}");
    }
}

#[test]
fn packed_forms_convert_each_part() {
    let mut random = Random(9);
    for _ in 0..20_000 {
        let (a, b) = (random.single(), random.single());
        for rounding in [Rounding::Nearest, Rounding::Zero] {
            for flags in 0..4 {
                let (relu, satfinite) = (flags & 1 != 0, flags & 2 != 0);
                for (to, part) in [(F16x2, F16), (BF16x2, BF16)] {
                    let c = Convert {
                        rounding: Some(rounding),
                        relu,
                        satfinite,
                        ..convert(to, F32)
                    };
                    assert_eq!(c.check(), Ok(()));
                    let scalar = Convert { to: part, ..c };
                    assert_eq!(scalar.check(), Ok(()));
                    let [high, low] = [a, b].map(|x| scalar.apply(x.to_bits().into()) as u32);
                    assert_eq!(c.pack(a, b), high << 16 | low);
                    check_limits(&scalar, a, high as u16);
                }
            }
        }
        for (to, encode) in [
            (E4M3x2, fp8::f32_to_e4m3 as fn(f32, bool) -> u8),
            (E5M2x2, fp8::f32_to_e5m2),
        ] {
            let nearest = Some(Rounding::Nearest);
            let relu = random.below(2) == 1;
            let c = Convert {
                rounding: nearest,
                relu,
                satfinite: true,
                ..convert(to, F32)
            };
            assert_eq!(c.check(), Ok(()));
            let packed = c.pack(a, b);
            assert_eq!(
                packed,
                u32::from(encode(a, relu)) << 8 | u32::from(encode(b, relu))
            );
            let halves = Convert {
                rounding: nearest,
                ..convert(F16x2, to)
            };
            assert_eq!(halves.check(), Ok(()));
            let wide = halves.unpack(packed as u16);
            assert_eq!(halves.apply(packed.into()), u64::from(wide));
            let back = Convert { from: F16x2, ..c };
            assert_eq!(back.check(), Ok(()));
            assert_eq!(
                back.apply(wide.into()),
                u64::from(packed),
                "halves hold all 8-bit numbers"
            );
        }
    }
}

/// `.relu` and `.satfinite` against the plain conversion.
fn check_limits(c: &Convert, x: f32, got: u16) {
    let plain = Convert {
        relu: false,
        satfinite: false,
        ..*c
    }
    .apply(x.to_bits().into()) as u16;
    let infinity = if c.to == F16 { 0x7c00 } else { 0x7f80 };
    let want = match plain {
        0x7fff => 0x7fff,
        _ if c.relu && plain >> 15 != 0 => 0,
        _ if c.satfinite && plain & 0x7fff == infinity => plain - 1,
        _ => plain,
    };
    assert_eq!(got, want, "{c:?} of {x:e}");
    assert_eq!(
        plain,
        if c.to == F16 {
            half::f32_to_f16(x, c.rounding.unwrap())
        } else {
            half::f32_to_bf16(x, c.rounding.unwrap())
        }
    );
}

#[test]
fn pack_clamps_and_shifts_in_the_third_operand() {
    assert_eq!(pack_saturated(U8, 300, -5, 0x1234_abcd), 0xabcd_ff00);
    assert_eq!(pack_saturated(S8, -300, 127, 0x0000_0001), 0x0001_807f);
    assert_eq!(pack_saturated(S8, -1, 5, 0), 0x0000_ff05);
    assert_eq!(pack_saturated(U16, 70_000, -1, 0xffff_ffff), 0xffff_0000);
    assert_eq!(pack_saturated(S16, -70_000, 70_000, 0), 0x8000_7fff);
}
