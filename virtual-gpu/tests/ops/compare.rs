//! Comparisons and selections.

use crate::harness::{Class, Form, Kind, body, form, run_all};
use crate::integer::INTS;
use crate::soft::{BF16, F16, F32, F64, Format};
use std::cmp::Ordering::{self, *};

/// Whether a comparison holds; `None` is unordered.
fn holds(name: &str, order: Option<Ordering>) -> bool {
    match name {
        "eq" => order == Some(Equal),
        "ne" => matches!(order, Some(Less | Greater)),
        "lt" | "lo" => order == Some(Less),
        "le" | "ls" => matches!(order, Some(Less | Equal)),
        "gt" | "hi" => order == Some(Greater),
        "ge" | "hs" => matches!(order, Some(Greater | Equal)),
        "num" => order.is_some(),
        "nan" => order.is_none(),
        unordered => order.is_none() || holds(&unordered[..2], order),
    }
}

const SIGNED: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];
const UNSIGNED: [&str; 10] = ["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"];
const FLOAT: [&str; 14] = [
    "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

type Order = fn(u64, u64) -> Option<Ordering>;

/// Types of a comparison: name with `.ftz`, class, comparisons, order.
fn types() -> Vec<(String, Class, &'static [&'static str], Order)> {
    fn flushed(format: Format, a: u64, b: u64) -> Option<Ordering> {
        format.compare(format.flush(a), format.flush(b))
    }
    let mut types: Vec<(String, Class, &'static [&'static str], Order)> = vec![
        ("b16".into(), Class::I16, &SIGNED[..2], |a, b| {
            Some(a.cmp(&b))
        }),
        ("b32".into(), Class::I32, &SIGNED[..2], |a, b| {
            Some(a.cmp(&b))
        }),
        ("b64".into(), Class::I64, &SIGNED[..2], |a, b| {
            Some(a.cmp(&b))
        }),
        ("f32".into(), Class::F32, &FLOAT, |a, b| F32.compare(a, b)),
        ("ftz.f32".into(), Class::F32, &FLOAT, |a, b| {
            flushed(F32, a, b)
        }),
        ("f64".into(), Class::F64, &FLOAT, |a, b| F64.compare(a, b)),
        ("f16".into(), Class::F16, &FLOAT, |a, b| F16.compare(a, b)),
        ("ftz.f16".into(), Class::F16, &FLOAT, |a, b| {
            flushed(F16, a, b)
        }),
        ("bf16".into(), Class::Bf16, &FLOAT, |a, b| {
            BF16.compare(a, b)
        }),
    ];
    let orders: [Order; 6] = [
        |a, b| Some(INTS[0].value(a).cmp(&INTS[0].value(b))),
        |a, b| Some(INTS[1].value(a).cmp(&INTS[1].value(b))),
        |a, b| Some(INTS[2].value(a).cmp(&INTS[2].value(b))),
        |a, b| Some(INTS[3].value(a).cmp(&INTS[3].value(b))),
        |a, b| Some(INTS[4].value(a).cmp(&INTS[4].value(b))),
        |a, b| Some(INTS[5].value(a).cmp(&INTS[5].value(b))),
    ];
    for (ty, order) in INTS.iter().zip(orders) {
        let names = if ty.signed {
            &SIGNED[..]
        } else {
            &UNSIGNED[..]
        };
        types.push((ty.name.into(), ty.class, names, order));
    }
    types
}

type Combine = fn(bool, bool) -> bool;

const COMBINE: [(&str, Combine); 3] = [
    ("and", |a, b| a && b),
    ("or", |a, b| a || b),
    ("xor", |a, b| a != b),
];

fn scalar(forms: &mut Vec<Form>) {
    for (ty, class, names, order) in types() {
        for name in names.iter().copied() {
            let result = move |x: &[u64]| holds(name, order(x[0], x[1]));
            let sources = [class, class, Class::Bool];
            let pair = &sources[..2];
            forms.push(form(format!("setp.{name}.{ty}"), Kind::P, pair, move |x| {
                u64::from(result(x))
            }));
            let line = format!("setp.{name}.{ty} D0|D1, S0, S1");
            forms.push(body(line, &[Kind::P; 2], pair, move |x| {
                vec![u64::from(result(x)), u64::from(!result(x))]
            }));
            for (combine, f) in COMBINE {
                let opcode = format!("setp.{name}.{combine}.{ty}");
                forms.push(form(&*opcode, Kind::P, &sources, move |x| {
                    u64::from(f(result(x), x[2] == 1))
                }));
                let line = format!("{opcode} D0|D1, S0, S1, !S2");
                forms.push(body(line, &[Kind::P; 2], &sources, move |x| {
                    let c = x[2] == 0;
                    vec![u64::from(f(result(x), c)), u64::from(f(!result(x), c))]
                }));
            }
            let half = matches!(class, Class::F16 | Class::Bf16);
            let mut to = vec![
                ("u32", Kind::W, u64::MAX),
                ("s32", Kind::W, u64::MAX),
                ("f32", Kind::W, 0x3f80_0000),
            ];
            if half {
                to.extend([("u16", Kind::H, 0xffff), ("s16", Kind::H, 0xffff)]);
                to.remove(2);
            }
            match class {
                Class::F16 => to.push(("f16", Kind::H, 0x3c00)),
                Class::Bf16 => to.push(("bf16", Kind::H, 0x3f80)),
                _ => {}
            }
            for (to, kind, yes) in to {
                let opcode = match ty.strip_prefix("ftz.") {
                    Some(ty) => format!("ftz.{to}.{ty}"),
                    None => format!("{to}.{ty}"),
                };
                let no_or = move |holds| if holds { yes } else { 0 };
                forms.push(form(format!("set.{name}.{opcode}"), kind, pair, move |x| {
                    no_or(result(x))
                }));
                if to == "u32" || half {
                    let opcode = format!("set.{name}.xor.{opcode}");
                    forms.push(form(opcode, kind, &sources, move |x| {
                        no_or(result(x) != (x[2] == 1))
                    }));
                }
            }
        }
    }
}

fn packed(forms: &mut Vec<Form>) {
    let types: [(&str, &str, Class, Format, u64); 3] = [
        ("", "f16x2", Class::F16x2, F16, 0x3c00),
        ("ftz.", "f16x2", Class::F16x2, F16, 0x3c00),
        ("", "bf16x2", Class::Bf16x2, BF16, 0x3f80),
    ];
    for (ftz, ty, class, format, one) in types {
        for name in FLOAT {
            let half = move |x: &[u64], at: u32| {
                let [a, b] = [x[0] >> at & 0xffff, x[1] >> at & 0xffff]
                    .map(|x| if ftz.is_empty() { x } else { format.flush(x) });
                holds(name, format.compare(a, b))
            };
            let sources = [class, class, Class::Bool];
            forms.push(body(
                format!("setp.{name}.{ftz}{ty} D0|D1, S0, S1"),
                &[Kind::P; 2],
                &sources[..2],
                move |x| [0, 16].map(|at| u64::from(half(x, at))).to_vec(),
            ));
            for (combine, f) in COMBINE {
                let line = format!("setp.{name}.{combine}.{ftz}{ty} D0|D1, S0, S1, S2");
                forms.push(body(line, &[Kind::P; 2], &sources, move |x| {
                    [0, 16]
                        .map(|at| u64::from(f(half(x, at), x[2] == 1)))
                        .to_vec()
                }));
            }
            for (to, yes) in [(ty, one), ("u32", 0xffff), ("s32", 0xffff)] {
                let pack = move |low: bool, high: bool| {
                    (u64::from(low) * yes) | ((u64::from(high) * yes) << 16)
                };
                let opcode = format!("set.{name}.{ftz}{to}.{ty}");
                forms.push(form(opcode, Kind::W, &sources[..2], move |x| {
                    pack(half(x, 0), half(x, 16))
                }));
                let opcode = format!("set.{name}.or.{ftz}{to}.{ty}");
                forms.push(form(opcode, Kind::W, &sources, move |x| {
                    let c = x[2] == 1;
                    pack(half(x, 0) || c, half(x, 16) || c)
                }));
            }
        }
    }
}

fn selections(forms: &mut Vec<Form>) {
    let types = [
        ("b16", Class::I16),
        ("u16", Class::I16),
        ("s16", Class::I16),
        ("b32", Class::I32),
        ("u32", Class::I32),
        ("s32", Class::I32),
        ("f32", Class::F32),
        ("b64", Class::I64),
        ("u64", Class::I64),
        ("s64", Class::I64),
        ("f64", Class::F64),
    ];
    for (ty, class) in types {
        let kind = class.kind();
        let sources = [class, class, Class::Bool];
        forms.push(form(format!("selp.{ty}"), kind, &sources, |x| {
            if x[2] == 1 { x[0] } else { x[1] }
        }));
        forms.push(body(
            format!("selp.{ty} D0, S0, S1, !S2"),
            &[kind],
            &sources,
            |x| vec![if x[2] == 1 { x[1] } else { x[0] }],
        ));
        forms.push(form(
            format!("slct.{ty}.s32"),
            kind,
            &[class, class, Class::I32],
            |x| {
                if x[2] < 1 << 31 { x[0] } else { x[1] }
            },
        ));
        for ftz in [false, true] {
            let opcode = format!("slct{}.{ty}.f32", if ftz { ".ftz" } else { "" });
            forms.push(form(opcode, kind, &[class, class, Class::F32], move |x| {
                let c = if ftz { F32.flush(x[2]) } else { x[2] };
                let first = matches!(F32.compare(c, 0), Some(Greater | Equal));
                if first { x[0] } else { x[1] }
            }));
        }
    }
    for (ty, class, format) in [("f32", Class::F32, F32), ("f64", Class::F64, F64)] {
        for test in [
            "finite",
            "infinite",
            "number",
            "notanumber",
            "normal",
            "subnormal",
        ] {
            forms.push(form(
                format!("testp.{test}.{ty}"),
                Kind::P,
                &[class],
                move |x| {
                    let magnitude = x[0] & (format.sign() - 1);
                    let smallest = 1 << format.mantissa;
                    u64::from(match test {
                        "finite" => magnitude < format.infinity(),
                        "infinite" => magnitude == format.infinity(),
                        "number" => magnitude <= format.infinity(),
                        "notanumber" => magnitude > format.infinity(),
                        "normal" => (smallest..format.infinity()).contains(&magnitude),
                        _ => (1..smallest).contains(&magnitude),
                    })
                },
            ));
        }
    }
}

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    scalar(&mut forms);
    packed(&mut forms);
    selections(&mut forms);
    forms
}

#[test]
fn comparisons() {
    run_all(&forms());
}
