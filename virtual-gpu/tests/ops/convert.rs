//! Conversions, through exact numbers.

use crate::harness::{Class, Form, Kind, body, form, run_all};
use crate::soft::{BF16, F16, F32, F64, Format, MODES, Mode, TF32};
use num_bigint::BigUint;

/// What `cvt` converts between.
#[derive(Clone, Copy, PartialEq)]
enum Type {
    /// Bits, whether signed.
    Int(u32, bool),
    Float(Format),
}

use Type::{Float, Int};

const TYPES: [(&str, Type); 12] = [
    ("u8", Int(8, false)),
    ("s8", Int(8, true)),
    ("u16", Int(16, false)),
    ("s16", Int(16, true)),
    ("u32", Int(32, false)),
    ("s32", Int(32, true)),
    ("u64", Int(64, false)),
    ("s64", Int(64, true)),
    ("f16", Float(F16)),
    ("bf16", Float(BF16)),
    ("f32", Float(F32)),
    ("f64", Float(F64)),
];

impl Type {
    fn bits(self) -> u32 {
        match self {
            Int(bits, _) => bits,
            Float(format) => format.bits(),
        }
    }

    fn class(self) -> Class {
        match self {
            Int(8 | 16, _) => Class::I16,
            Int(32, _) => Class::I32,
            Int(..) => Class::I64,
            Float(F16) => Class::F16,
            Float(BF16) => Class::Bf16,
            Float(F32) => Class::F32,
            Float(_) => Class::F64,
        }
    }

    /// The value in the low bits of a register.
    fn value(self, x: u64) -> i128 {
        let Int(bits, signed) = self else {
            unreachable!()
        };
        let x = i128::from(x) & ((1 << bits) - 1);
        if signed && x >> (bits - 1) != 0 {
            x - (1 << bits)
        } else {
            x
        }
    }

    fn limits(self) -> (i128, i128) {
        match self {
            Int(bits, true) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            _ => (0, (1 << self.bits()) - 1),
        }
    }
}

/// Bits of a result as a register of `kind` holds them: extended as the type says.
fn extended(ty: Type, value: i128) -> u64 {
    let Int(bits, signed) = ty else {
        unreachable!()
    };
    let low = value & ((1 << bits) - 1);
    (if signed && low >> (bits - 1) != 0 {
        low - (1 << bits)
    } else {
        low
    }) as u64
}

fn integers(forms: &mut Vec<Form>) {
    for (to_name, to) in &TYPES[..8] {
        for (from_name, from) in &TYPES[..8] {
            let (to, from) = (*to, *from);
            let name = format!("{to_name}.{from_name}");
            let kind = to.class().kind();
            forms.push(form(
                format!("cvt.{name}"),
                kind,
                &[from.class()],
                move |x| extended(to, from.value(x[0])),
            ));
            // Wider registers on either side.
            if to.bits() <= 32 && from.bits() == 8 {
                forms.push(form(
                    format!("cvt.{name}"),
                    Kind::D,
                    &[Class::I64],
                    move |x| extended(to, from.value(x[0])),
                ));
                forms.push(form(
                    format!("cvt.{name}"),
                    Kind::W,
                    &[Class::I32],
                    move |x| extended(to, from.value(x[0])),
                ));
            }
            let ((low, high), (from_low, from_high)) = (to.limits(), from.limits());
            if from_low < low || from_high > high {
                forms.push(form(
                    format!("cvt.sat.{name}"),
                    kind,
                    &[from.class()],
                    move |x| extended(to, from.value(x[0]).clamp(low, high)),
                ));
            }
        }
    }
}

fn integral_names() -> [(&'static str, Mode); 4] {
    [
        ("rni", Mode::Nearest),
        ("rzi", Mode::Zero),
        ("rmi", Mode::Down),
        ("rpi", Mode::Up),
    ]
}

/// A float rounded to an integer type; NaN is 0, or the highest bit where 64 bits take part.
fn to_integer(to: Type, from: Format, x: u64, mode: Mode) -> u64 {
    if from.is_nan(x) {
        return if from == F64 || to.bits() == 64 {
            extended(to, 1 << (to.bits() - 1))
        } else {
            0
        };
    }
    let (low, high) = to.limits();
    let value = match from.integral(x, mode) {
        None if from.negative(x) => low,
        None => high,
        Some((negative, magnitude)) => {
            let magnitude = if magnitude.bits() > 100 {
                1 << 100
            } else {
                i128::try_from(magnitude).unwrap()
            };
            (if negative { -magnitude } else { magnitude }).clamp(low, high)
        }
    };
    extended(to, value)
}

fn floats_and_integers(forms: &mut Vec<Form>) {
    for (int_name, int) in &TYPES[..8] {
        for (float_name, float) in &TYPES[8..] {
            let (int, Float(format)) = (*int, *float) else {
                unreachable!()
            };
            let ftzs: &[&str] = if format == F32 { &["", ".ftz"] } else { &[""] };
            for (mode_name, mode) in integral_names() {
                for ftz in ftzs {
                    let flush = move |x: u64| if ftz.is_empty() { x } else { format.flush(x) };
                    for sat in ["", ".sat"] {
                        let opcode = format!("cvt.{mode_name}{ftz}{sat}.{int_name}.{float_name}");
                        let kind = int.class().kind();
                        forms.push(form(opcode, kind, &[float.class()], move |x| {
                            to_integer(int, format, flush(x[0]), mode)
                        }));
                    }
                }
            }
            for (mode_name, mode) in MODES {
                let convert = move |x: u64| {
                    let value = int.value(x);
                    format.round(
                        value < 0,
                        &BigUint::from(value.unsigned_abs()),
                        0,
                        false,
                        mode,
                    )
                };
                let kind = float.class().kind();
                let opcode = format!("cvt.{mode_name}.{float_name}.{int_name}");
                forms.push(form(opcode, kind, &[int.class()], move |x| convert(x[0])));
                if format != BF16 {
                    let opcode = format!("cvt.{mode_name}.sat.{float_name}.{int_name}");
                    forms.push(form(opcode, kind, &[int.class()], move |x| {
                        format.saturate(convert(x[0]))
                    }));
                }
            }
        }
    }
}

fn floats(forms: &mut Vec<Form>) {
    for (to_name, to) in &TYPES[8..] {
        for (from_name, from) in &TYPES[8..] {
            let (Float(target), Float(source)) = (*to, *from) else {
                unreachable!()
            };
            let (kind, class) = (to.class().kind(), from.class());
            let single = target == F32 || source == F32;
            for ftz in if single { &["", ".ftz"][..] } else { &[""] } {
                let flush = move |format: Format, x: u64| {
                    if !ftz.is_empty() && format == F32 {
                        format.flush(x)
                    } else {
                        x
                    }
                };
                for sat in if target == BF16 {
                    &[""][..]
                } else {
                    &["", ".sat"]
                } {
                    let finish = move |x: u64| {
                        let x = flush(target, x);
                        if sat.is_empty() {
                            x
                        } else {
                            target.saturate(x)
                        }
                    };
                    let name = format!("{ftz}{sat}.{to_name}.{from_name}");
                    if target == source {
                        for (mode_name, mode) in integral_names() {
                            forms.push(form(
                                format!("cvt.{mode_name}{name}"),
                                kind,
                                &[class],
                                move |x| {
                                    let x = flush(source, x[0]);
                                    finish(match source.integral(x, mode) {
                                        Some((negative, magnitude)) => {
                                            target.round(negative, &magnitude, 0, false, mode)
                                        }
                                        None => target.round_number(&source.decode(x), mode),
                                    })
                                },
                            ));
                        }
                    } else if target.mantissa > source.mantissa
                        && target.exponent >= source.exponent
                    {
                        // A bf16 is the upper half of an f32, a NaN too: its bits stay, where nothing else is asked.
                        let keeps = source == BF16 && target == F32 && name == ".f32.bf16";
                        forms.push(form(format!("cvt{name}"), kind, &[class], move |x| {
                            if keeps {
                                return x[0] << 16;
                            }
                            finish(
                                target.round_number(
                                    &source.decode(flush(source, x[0])),
                                    Mode::Nearest,
                                ),
                            )
                        }));
                    } else {
                        for (mode_name, mode) in MODES {
                            forms.push(form(
                                format!("cvt.{mode_name}{name}"),
                                kind,
                                &[class],
                                move |x| {
                                    finish(
                                        target.round_number(
                                            &source.decode(flush(source, x[0])),
                                            mode,
                                        ),
                                    )
                                },
                            ));
                        }
                    }
                }
            }
        }
    }
}

/// Result with `.relu` and `.satfinite`.
fn limited(format: Format, x: u64, relu: bool, finite: bool) -> u64 {
    let sign = format.sign();
    let x = if finite && x & !sign == format.infinity() {
        x - 1
    } else {
        x
    };
    if relu && !format.is_nan(x) && x & sign != 0 {
        0
    } else {
        x
    }
}

/// e4m3: no infinity, so it is searched among all its numbers.
fn e4m3(x: f64) -> u64 {
    let value = |code: u64| match code >> 3 {
        0 => (code & 7) as f64 / 512.0,
        exponent => (8 + (code & 7)) as f64 * 2f64.powi(exponent as i32 - 10),
    };
    if x.is_nan() {
        return 0x7f;
    }
    let (sign, x) = (if x.is_sign_negative() { 0x80 } else { 0 }, x.abs());
    // Of two neighbours the nearer one, or the even one from the middle.
    let code = (0..0x7e)
        .find(|code| {
            let middle = (value(*code) + value(code + 1)) / 2.0;
            x < middle || (x == middle && code & 1 == 0)
        })
        .unwrap_or(0x7e);
    sign | code
}

const E5M2: Format = Format {
    exponent: 5,
    mantissa: 2,
};

/// An 8-bit number of a float.
fn byte(e4: bool, from: Format, x: u64, relu: bool) -> u64 {
    let code = if e4 {
        e4m3(f64::from_bits(
            F64.round_number(&from.decode(x), Mode::Nearest),
        ))
    } else {
        limited(
            E5M2,
            E5M2.round_number(&from.decode(x), Mode::Nearest),
            false,
            true,
        )
    };
    if relu && code & 0x80 != 0 && code & 0x7f != 0x7f {
        0
    } else {
        code
    }
}

fn packed(forms: &mut Vec<Form>) {
    for (mode_name, mode) in &MODES[..2] {
        for relu in [false, true] {
            for finite in [false, true] {
                let suffix = format!(
                    "{}{}",
                    if relu { ".relu" } else { "" },
                    if finite { ".satfinite" } else { "" }
                );
                let mode = *mode;
                for (name, format) in [("f16", F16), ("bf16", BF16)] {
                    let one = move |x: u64| {
                        limited(
                            format,
                            format.round_number(&F32.decode(x), mode),
                            relu,
                            finite,
                        )
                    };
                    let opcode = format!("cvt.{mode_name}{suffix}.{name}x2.f32");
                    forms.push(form(opcode, Kind::W, &[Class::F32; 2], move |x| {
                        one(x[0]) << 16 | one(x[1])
                    }));
                    if relu || finite {
                        let opcode = format!("cvt.{mode_name}{suffix}.{name}.f32");
                        forms.push(form(opcode, Kind::H, &[Class::F32], move |x| one(x[0])));
                    }
                }
                let tf32 = move |x: u64, mode| {
                    if F32.is_nan(x) {
                        return F32.nan();
                    }
                    let bits = TF32.round_number(&F32.decode(x), mode);
                    limited(TF32, bits, relu, finite) << 13
                };
                let opcode = format!("cvt.{mode_name}{suffix}.tf32.f32");
                forms.push(form(opcode, Kind::W, &[Class::F32], move |x| {
                    tf32(x[0], mode)
                }));
                if !relu && mode == Mode::Nearest {
                    let opcode = format!("cvt.rna{suffix}.tf32.f32");
                    forms.push(form(opcode, Kind::W, &[Class::F32], move |x| {
                        tf32(x[0], Mode::Away)
                    }));
                }
            }
        }
    }
    for (name, e4) in [("e4m3x2", true), ("e5m2x2", false)] {
        for relu in [false, true] {
            let suffix = if relu { ".relu" } else { "" };
            let opcode = format!("cvt.rn.satfinite{suffix}.{name}.f32");
            forms.push(form(opcode, Kind::H, &[Class::F32; 2], move |x| {
                byte(e4, F32, x[0], relu) << 8 | byte(e4, F32, x[1], relu)
            }));
            for (from, class, format) in [
                ("f16x2", Class::F16x2, F16),
                ("bf16x2", Class::Bf16x2, BF16),
            ] {
                if from == "bf16x2" {
                    continue;
                }
                let opcode = format!("cvt.rn.satfinite{suffix}.{name}.{from}");
                forms.push(form(opcode, Kind::H, &[class], move |x| {
                    byte(e4, format, x[0] >> 16, relu) << 8 | byte(e4, format, x[0] & 0xffff, relu)
                }));
            }
            let opcode = format!("cvt.rn{suffix}.f16x2.{name}");
            forms.push(form(opcode, Kind::W, &[Class::I16], move |x| {
                let half = |code: u64| {
                    let bits = if e4 {
                        let magnitude = code & 0x7f;
                        let negative = code & 0x80 != 0;
                        match magnitude >> 3 {
                            _ if magnitude == 0x7f => return F16.nan(),
                            0 => F16.round(negative, &magnitude.into(), -9, false, Mode::Nearest),
                            e => F16.round(
                                negative,
                                &(8 + (code & 7)).into(),
                                e as i64 - 10,
                                false,
                                Mode::Nearest,
                            ),
                        }
                    } else {
                        F16.round_number(&E5M2.decode(code), Mode::Nearest)
                    };
                    limited(F16, bits, relu, false)
                };
                half(x[0] >> 8) << 16 | half(x[0] & 0xff)
            }));
        }
    }
    for (name, bits, signed) in [
        ("u16", 16, false),
        ("s16", 16, true),
        ("u8", 8, false),
        ("s8", 8, true),
    ] {
        let ty = Int(bits, signed);
        let (low, high) = ty.limits();
        let field = move |x: u64| i128::from(x as i32).clamp(low, high) as u64 & ((1 << bits) - 1);
        if bits == 16 {
            let opcode = format!("cvt.pack.sat.{name}.s32");
            forms.push(form(opcode, Kind::W, &[Class::I32; 2], move |x| {
                field(x[0]) << 16 | field(x[1])
            }));
        } else {
            let opcode = format!("cvt.pack.sat.{name}.s32.b32");
            forms.push(form(opcode, Kind::W, &[Class::I32; 3], move |x| {
                (x[2] << 16) | field(x[0]) << 8 | field(x[1])
            }));
        }
    }
    // The result of a conversion in the register that it comes from.
    forms.push(body(
        "cvt.u32.u16 t0, S0\ncvt.u16.u32 D0, t0",
        &[Kind::H],
        &[Class::I16],
        |x| vec![x[0]],
    ));
}

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    integers(&mut forms);
    floats_and_integers(&mut forms);
    floats(&mut forms);
    packed(&mut forms);
    forms
}

#[test]
fn conversions() {
    run_all(&forms());
}
