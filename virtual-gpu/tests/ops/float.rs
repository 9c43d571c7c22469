//! f32 and f64, rounded from exact numbers.

use crate::harness::{Class, Form, Kind, body, form, run_all};
use crate::soft::{BF16, F16, F32, F64, Format, MODES, Mode};

/// A type and whether it flushes subnormal numbers.
#[derive(Clone, Copy)]
struct Type {
    name: &'static str,
    class: Class,
    kind: Kind,
    format: Format,
    ftz: bool,
    sat: bool,
}

impl Type {
    fn suffix(self) -> String {
        let flag = |on, text| if on { text } else { "" };
        format!(
            "{}{}.{}",
            flag(self.ftz, ".ftz"),
            flag(self.sat, ".sat"),
            self.name
        )
    }

    fn of(self, opcode: &str, count: usize, f: impl Fn(Format, &[u64]) -> u64 + 'static) -> Form {
        let sources = vec![self.class; count];
        form(
            format!("{opcode}{}", self.suffix()),
            self.kind,
            &sources,
            move |x| {
                let flush = |x: u64| if self.ftz { self.format.flush(x) } else { x };
                let sources: Vec<u64> = x.iter().map(|x| flush(*x)).collect();
                let result = flush(f(self.format, &sources));
                if self.sat {
                    self.format.saturate(result)
                } else {
                    result
                }
            },
        )
    }
}

fn types() -> Vec<Type> {
    let single = Type {
        name: "f32",
        class: Class::F32,
        kind: Kind::W,
        format: F32,
        ftz: false,
        sat: false,
    };
    let double = Type {
        name: "f64",
        class: Class::F64,
        kind: Kind::D,
        format: F64,
        ..single
    };
    vec![
        single,
        Type {
            ftz: true,
            ..single
        },
        Type {
            sat: true,
            ..single
        },
        Type {
            ftz: true,
            sat: true,
            ..single
        },
        double,
    ]
}

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for ty in types() {
        let sign = ty.format.sign();
        let without = [(String::new(), Mode::Nearest)];
        let with = MODES.map(|(name, mode)| (format!(".{name}"), mode));
        for (suffix, mode) in without.into_iter().chain(with) {
            forms.push(ty.of(&format!("add{suffix}"), 2, move |f, x| {
                f.add(x[0], x[1], mode)
            }));
            forms.push(ty.of(&format!("sub{suffix}"), 2, move |f, x| {
                f.add(x[0], x[1] ^ sign, mode)
            }));
            forms.push(ty.of(&format!("mul{suffix}"), 2, move |f, x| {
                f.mul(x[0], x[1], mode)
            }));
            if suffix.is_empty() {
                continue;
            }
            for op in ["fma", "mad"] {
                forms.push(ty.of(&format!("{op}{suffix}"), 3, move |f, x| {
                    f.fma(x[0], x[1], x[2], mode)
                }));
            }
            if !ty.sat {
                forms.push(ty.of(&format!("div{suffix}"), 2, move |f, x| {
                    f.div(x[0], x[1], mode)
                }));
                forms.push(ty.of(&format!("rcp{suffix}"), 1, move |f, x| {
                    f.div(f.one(), x[0], mode)
                }));
                forms.push(ty.of(&format!("sqrt{suffix}"), 1, move |f, x| f.sqrt(x[0], mode)));
            }
        }
        if ty.sat {
            continue;
        }
        for (name, largest) in [("min", false), ("max", true)] {
            forms.push(ty.of(name, 2, move |f, x| f.extreme(x[0], x[1], largest, false)));
            if ty.format == F64 {
                continue;
            }
            // `.ftz` stands before `.NaN`, and that before `.xorsign.abs`.
            let ftz = if ty.ftz { ".ftz" } else { "" };
            let plain = Type { ftz: false, ..ty };
            for (suffix, nan, signs) in [
                (".NaN", true, false),
                (".xorsign.abs", false, true),
                (".NaN.xorsign.abs", true, true),
            ] {
                forms.push(plain.of(&format!("{name}{ftz}{suffix}"), 2, move |f, x| {
                    let flush = |x: u64| if ty.ftz { f.flush(x) } else { x };
                    let (a, b) = (flush(x[0]), flush(x[1]));
                    if !signs {
                        return f.extreme(a, b, largest, nan);
                    }
                    let magnitude = f.extreme(a & !sign, b & !sign, largest, nan);
                    if f.is_nan(magnitude) {
                        f.nan()
                    } else {
                        magnitude | (a ^ b) & sign
                    }
                }));
            }
        }
        // PTX leaves open what abs and neg make of a NaN. They are operations on the sign bit, as in hardware, where
        // they are modifiers of an operand.
        forms.push(ty.of("abs", 1, move |_, x| x[0] & !sign));
        forms.push(ty.of("neg", 1, move |_, x| x[0] ^ sign));
        if !ty.ftz {
            forms.push(ty.of("copysign", 2, move |_, x| x[0] & sign | x[1] & !sign));
        }
    }
    forms.extend(pairs());
    forms.extend(mixed());
    for (name, largest) in [("min", false), ("max", true)] {
        for (suffix, nan, magnitudes) in [
            ("", false, false),
            (".NaN", true, false),
            (".abs", false, true),
            (".NaN.abs", true, true),
        ] {
            let reference = move |x: &[u64]| {
                let number = |x: u64| if magnitudes { x & !F32.sign() } else { x };
                let first = F32.extreme(number(x[0]), number(x[1]), largest, nan);
                F32.extreme(first, number(x[2]), largest, nan)
            };
            let opcode = format!("{name}{suffix}.f32");
            forms.push(form(opcode, Kind::W, &[Class::F32; 3], reference));
        }
    }
    forms
}

/// Two f32 in 64 bits.
fn pairs() -> Vec<Form> {
    let mut forms = Vec::new();
    let modes = MODES.map(|(name, mode)| (format!(".{name}"), mode));
    for (name, mode) in [(String::new(), Mode::Nearest)].into_iter().chain(modes) {
        for ftz in [false, true] {
            let flush = move |x: u64| if ftz { F32.flush(x) } else { x };
            let suffix = format!("{name}{}", if ftz { ".ftz" } else { "" });
            for op in ["add", "sub", "mul"] {
                forms.push(body(
                    format!(
                        "mov.b64 u0, {{S0, S1}}\nmov.b64 u1, {{S2, S3}}\n{op}{suffix}.f32x2 u2, u0, u1\nmov.b64 {{D0, D1}}, u2"
                    ),
                    &[Kind::W; 2],
                    &[Class::F32; 4],
                    move |x| {
                        let half = |a: u64, b: u64| {
                            let (a, b) = (flush(a), flush(b));
                            flush(match op {
                                "add" => F32.add(a, b, mode),
                                "sub" => F32.add(a, b ^ F32.sign(), mode),
                                _ => F32.mul(a, b, mode),
                            })
                        };
                        vec![half(x[0], x[2]), half(x[1], x[3])]
                    },
                ));
            }
            if name.is_empty() {
                continue;
            }
            // The second half's factors are those of the first, the other way round.
            forms.push(body(
                format!(
                    "mov.b64 u0, {{S0, S1}}\nmov.b64 u1, {{S1, S0}}\nmov.b64 u2, {{S2, S3}}\nfma{suffix}.f32x2 u2, u0, u1, u2\n\
                     mov.b64 {{D0, D1}}, u2"
                ),
                &[Kind::W; 2],
                &[Class::F32; 4],
                move |x| {
                    let half = |c: u64| flush(F32.fma(flush(x[0]), flush(x[1]), flush(c), mode));
                    vec![half(x[2]), half(x[3])]
                },
            ));
        }
    }
    forms
}

/// Sums of f32 and of 16 bits.
fn mixed() -> Vec<Form> {
    let mut forms = Vec::new();
    let modes = MODES.map(|(name, mode)| (format!(".{name}"), mode));
    for (suffix, mode) in [(String::new(), Mode::Nearest)].into_iter().chain(modes) {
        for (class, format, name) in [(Class::F16, F16, "f16"), (Class::Bf16, BF16, "bf16")] {
            for sat in [false, true] {
                let wide = move |x: u64| match format.is_nan(x) {
                    true => F32.nan(),
                    false => F32.round_number(&format.decode(x), Mode::Nearest),
                };
                let end = move |x: u64| if sat { F32.saturate(x) } else { x };
                let suffix = format!("{suffix}{}.f32.{name}", if sat { ".sat" } else { "" });
                for (op, sign) in [("add", 0), ("sub", F32.sign())] {
                    let sum = move |x: &[u64]| end(F32.add(wide(x[0]), x[1] ^ sign, mode));
                    let opcode = format!("{op}{suffix}");
                    forms.push(form(opcode, Kind::W, &[class, Class::F32], sum));
                }
                if suffix.starts_with(".r") {
                    let sources = [class, class, Class::F32];
                    forms.push(form(format!("fma{suffix}"), Kind::W, &sources, move |x| {
                        end(F32.fma(wide(x[0]), wide(x[1]), x[2], mode))
                    }));
                }
            }
        }
    }
    forms
}

#[test]
fn floats() {
    run_all(&forms());
}
