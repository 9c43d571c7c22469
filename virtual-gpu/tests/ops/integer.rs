//! Integer arithmetic, in 128 bits.

use crate::harness::{Class, Form, Kind, body, form, run_all};

/// An integer type: name, class, kind, bits, whether signed.
#[derive(Clone, Copy)]
pub struct Int {
    pub name: &'static str,
    pub class: Class,
    pub kind: Kind,
    pub bits: u32,
    pub signed: bool,
}

const fn int(name: &'static str, class: Class, kind: Kind, bits: u32, signed: bool) -> Int {
    Int {
        name,
        class,
        kind,
        bits,
        signed,
    }
}

pub const INTS: [Int; 6] = [
    int("u16", Class::I16, Kind::H, 16, false),
    int("s16", Class::I16, Kind::H, 16, true),
    int("u32", Class::I32, Kind::W, 32, false),
    int("s32", Class::I32, Kind::W, 32, true),
    int("u64", Class::I64, Kind::D, 64, false),
    int("s64", Class::I64, Kind::D, 64, true),
];

impl Int {
    pub fn value(self, x: u64) -> i128 {
        let x = i128::from(x) & ((1i128 << self.bits) - 1);
        if self.signed && x >> (self.bits - 1) != 0 {
            x - (1i128 << self.bits)
        } else {
            x
        }
    }

    fn limits(self) -> (i128, i128) {
        if self.signed {
            (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1i128 << self.bits) - 1)
        }
    }

    fn clamp(self, x: i128) -> u64 {
        let (low, high) = self.limits();
        x.clamp(low, high) as u64
    }

    /// A form whose reference is a function of the values.
    fn of(self, opcode: &str, count: usize, f: impl Fn(&[i128]) -> i128 + 'static) -> Form {
        form(
            format!("{opcode}.{}", self.name),
            self.kind,
            &vec![self.class; count],
            move |x| {
                let values: Vec<i128> = x.iter().map(|x| self.value(*x)).collect();
                f(&values) as u64
            },
        )
    }
}

/// The part of a product that `.lo`, `.hi` or `.wide` names.
fn part(ty: Int, part: &str, product: i128) -> u64 {
    if part == "hi" {
        (product >> ty.bits) as u64
    } else {
        product as u64
    }
}

fn products(forms: &mut Vec<Form>) {
    for ty in INTS {
        for which in ["lo", "hi", "wide"] {
            if which == "wide" && ty.bits == 64 {
                continue;
            }
            let wide = which == "wide";
            let (kind, addend) = match (wide, ty.bits) {
                (false, _) => (ty.kind, ty.class),
                (true, 16) => (Kind::W, Class::I32),
                (true, _) => (Kind::D, Class::I64),
            };
            let sources = [ty.class, ty.class, addend];
            let name = format!("{which}.{}", ty.name);
            // Unsigned 64-bit products fit 128 bits only without a sign.
            let product = move |x: &[u64]| {
                if ty.bits == 64 && !ty.signed {
                    let product = u128::from(x[0]) * u128::from(x[1]);
                    if which == "hi" {
                        (product >> 64) as u64
                    } else {
                        product as u64
                    }
                } else {
                    part(ty, which, ty.value(x[0]) * ty.value(x[1]))
                }
            };
            forms.push(form(format!("mul.{name}"), kind, &sources[..2], product));
            forms.push(form(format!("mad.{name}"), kind, &sources, move |x| {
                product(x).wrapping_add(x[2])
            }));
        }
    }
    for (ty, signed) in [("u32", false), ("s32", true)] {
        for high in [false, true] {
            let short = move |x: u64| {
                let x = (x & 0xff_ffff) as i64;
                if signed && x >= 0x80_0000 {
                    x - 0x100_0000
                } else {
                    x
                }
            };
            let product = move |x: &[u64]| (short(x[0]) * short(x[1])) >> if high { 16 } else { 0 };
            let name = format!("{}.{ty}", if high { "hi" } else { "lo" });
            forms.push(form(
                format!("mul24.{name}"),
                Kind::W,
                &[Class::I32; 2],
                move |x| product(x) as u64,
            ));
            forms.push(form(
                format!("mad24.{name}"),
                Kind::W,
                &[Class::I32; 3],
                move |x| (product(x) as u64).wrapping_add(x[2]),
            ));
            if high && signed {
                forms.push(form(
                    "mad24.hi.sat.s32",
                    Kind::W,
                    &[Class::I32; 3],
                    move |x| {
                        let sum = i128::from(product(x) as i32) + i128::from(x[2] as i32);
                        INTS[3].clamp(sum)
                    },
                ));
            }
        }
    }
    forms.push(form("mad.hi.sat.s32", Kind::W, &[Class::I32; 3], |x| {
        let value = |x: u64| i128::from(x as i32);
        INTS[3].clamp(((value(x[0]) * value(x[1])) >> 32) + value(x[2]))
    }));
}

/// Sums that set and use the carry, over two and three registers.
fn carries(forms: &mut Vec<Form>) {
    for ty in &INTS[2..] {
        let (ty, bits) = (*ty, ty.bits);
        let wide = move |low: u64, high: u64| -> (u128, u64) {
            (u128::from(low) | u128::from(high) << bits, low)
        };
        let split = move |x: u128| vec![x as u64, (x >> bits) as u64];
        let name = ty.name;
        for subtract in [false, true] {
            let op = if subtract { "sub" } else { "add" };
            let text = format!("{op}.cc.{name} D0, S0, S1\n{op}c.{name} D1, S2, S3");
            forms.push(body(text, &[ty.kind; 2], &[ty.class; 4], move |x| {
                let (a, b) = (wide(x[0], x[2]).0, wide(x[1], x[3]).0);
                split(if subtract {
                    a.wrapping_sub(b)
                } else {
                    a.wrapping_add(b)
                })
            }));
            // The carry of the second sum, made visible by a third.
            let zero = if ty.kind == Kind::D { "u0" } else { "t0" };
            let text = format!(
                "{op}.cc.{name} {zero}, S0, S1\n{op}c.cc.{name} D0, S2, S3\n{op}c.{name} D1, 0, 0"
            );
            forms.push(body(text, &[ty.kind; 2], &[ty.class; 4], move |x| {
                let (low, high) = (i128::from(x[0]), i128::from(x[2]));
                let sign = if subtract { -1 } else { 1 };
                let first = low + sign * i128::from(x[1]);
                let second = high + sign * i128::from(x[3]) + (first >> bits);
                vec![second as u64, (second >> bits) as u64]
            }));
        }
        for which in ["lo", "hi"] {
            let zero = if ty.kind == Kind::D { "u0" } else { "t0" };
            let text = format!(
                "mad.{which}.cc.{name} D0, S0, S1, S2\nmadc.{which}.cc.{name} {zero}, S1, S2, S0\n\
                 madc.{which}.{name} D1, S2, S0, S1"
            );
            forms.push(body(text, &[ty.kind; 2], &[ty.class; 3], move |x| {
                let mask = (1i128 << bits) - 1;
                let mad = |a: u64, b: u64, c: u64, carry: i128| {
                    let product = if bits == 64 && !ty.signed {
                        let product = u128::from(a) * u128::from(b);
                        if which == "hi" {
                            (product >> 64) as u64
                        } else {
                            product as u64
                        }
                    } else {
                        part(ty, which, ty.value(a) * ty.value(b))
                    };
                    let sum = (i128::from(product) & mask) + i128::from(c) + carry;
                    ((sum & mask) as u64, sum >> bits)
                };
                let (d0, carry) = mad(x[0], x[1], x[2], 0);
                let (_, carry) = mad(x[1], x[2], x[0], carry);
                vec![d0, mad(x[2], x[0], x[1], carry).0]
            }));
        }
    }
}

fn packed(forms: &mut Vec<Form>) {
    fn halves(opcode: &str, f: fn(i32, i32) -> i32, signed: bool) -> Form {
        form(opcode, Kind::W, &[Class::I32; 2], move |x| {
            let half = |x: u64, at: u32| {
                let x = (x >> at & 0xffff) as i32;
                if signed && x > 0x7fff {
                    x - 0x1_0000
                } else {
                    x
                }
            };
            let each = |at| u64::from(f(half(x[0], at), half(x[1], at)) as u32 & 0xffff) << at;
            each(0) | each(16)
        })
    }
    let smaller = |a: i32, b: i32| if a < b { a } else { b };
    let larger = |a: i32, b: i32| if a < b { b } else { a };
    forms.extend([
        halves("add.u16x2", |a, b| a + b, false),
        halves("add.s16x2", |a, b| a + b, true),
        halves("min.u16x2", smaller, false),
        halves("max.u16x2", larger, false),
        halves("min.s16x2", smaller, true),
        halves("max.s16x2", larger, true),
        halves(
            "min.relu.s16x2",
            |a, b| {
                if a < 0 || b < 0 {
                    0
                } else if a < b {
                    a
                } else {
                    b
                }
            },
            true,
        ),
        halves(
            "max.relu.s16x2",
            |a, b| {
                if a < 0 && b < 0 {
                    0
                } else if a < b {
                    b
                } else {
                    a
                }
            },
            true,
        ),
    ]);
}

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for ty in INTS {
        let (low, _) = ty.limits();
        forms.push(ty.of("add", 2, |x| x[0] + x[1]));
        forms.push(ty.of("sub", 2, |x| x[0] - x[1]));
        forms.push(ty.of("min", 2, |x| if x[0] < x[1] { x[0] } else { x[1] }));
        forms.push(ty.of("max", 2, |x| if x[0] < x[1] { x[1] } else { x[0] }));
        forms.push(ty.of("sad", 3, |x| x[2] + (x[0] - x[1]).abs()));
        // Divided by zero: all ones, and the dividend as remainder.
        forms.push(ty.of("div", 2, move |x| match x[1] {
            0 => -1,
            -1 if x[0] == low => low,
            b => x[0] / b,
        }));
        forms.push(ty.of("rem", 2, |x| if x[1] == 0 { x[0] } else { x[0] % x[1] }));
        if ty.signed {
            forms.push(ty.of("abs", 1, |x| x[0].abs()));
            forms.push(ty.of("neg", 1, |x| -x[0]));
        }
    }
    let clamped = |name: &str, sign: i128| {
        INTS[3].of(name, 2, move |x| {
            i128::from(INTS[3].clamp(x[0] + sign * x[1]))
        })
    };
    forms.push(clamped("add.sat", 1));
    forms.push(clamped("sub.sat", -1));
    forms.push(INTS[3].of("min.relu", 2, |x| x[0].min(x[1]).max(0)));
    forms.push(INTS[3].of("max.relu", 2, |x| x[0].max(x[1]).max(0)));
    products(&mut forms);
    carries(&mut forms);
    packed(&mut forms);
    for (a_ty, a_signed) in [("u32", false), ("s32", true)] {
        for (b_ty, b_signed) in [("u32", false), ("s32", true)] {
            let field = |x: u64, at: u32, bits: u32, signed: bool| {
                let x = (x >> at & ((1 << bits) - 1)) as i64;
                if signed && x >> (bits - 1) != 0 {
                    x - (1 << bits)
                } else {
                    x
                }
            };
            forms.push(form(
                format!("dp4a.{a_ty}.{b_ty}"),
                Kind::W,
                &[Class::I32; 3],
                move |x| {
                    let products = [0, 8, 16, 24]
                        .map(|at| field(x[0], at, 8, a_signed) * field(x[1], at, 8, b_signed));
                    (products.iter().sum::<i64>() + x[2] as i64) as u64
                },
            ));
            for (which, first) in [("lo", 0), ("hi", 16)] {
                let opcode = format!("dp2a.{which}.{a_ty}.{b_ty}");
                forms.push(form(opcode, Kind::W, &[Class::I32; 3], move |x| {
                    let low = field(x[0], 0, 16, a_signed) * field(x[1], first, 8, b_signed);
                    let high = field(x[0], 16, 16, a_signed) * field(x[1], first + 8, 8, b_signed);
                    (low + high + x[2] as i64) as u64
                }));
            }
        }
    }
    forms
}

#[test]
fn integers() {
    run_all(&forms());
}
