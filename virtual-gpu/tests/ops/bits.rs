//! Logic, shifts and bit fields, bit by bit.

use crate::harness::{Class, Form, Kind, body, form, run_all};

const WIDTHS: [(&str, Class, Kind, u32); 3] = [
    ("16", Class::I16, Kind::H, 16),
    ("32", Class::I32, Kind::W, 32),
    ("64", Class::I64, Kind::D, 64),
];

/// A number from its bits, lowest first.
fn collect(count: u32, bit: impl Fn(u32) -> bool) -> u64 {
    (0..count)
        .filter(|at| bit(*at))
        .fold(0, |x, at| x | 1 << at)
}

fn has(x: u64, at: u32) -> bool {
    at < 64 && x >> at & 1 == 1
}

fn logic(forms: &mut Vec<Form>) {
    for (name, class, kind, bits) in WIDTHS {
        let name = format!("b{name}");
        let by_bit = |op: &str, f: fn(bool, bool) -> bool| {
            form(format!("{op}.{name}"), kind, &[class; 2], move |x| {
                collect(bits, |at| f(has(x[0], at), has(x[1], at)))
            })
        };
        forms.push(by_bit("and", |a, b| a && b));
        forms.push(by_bit("or", |a, b| a || b));
        forms.push(by_bit("xor", |a, b| a != b));
        forms.push(form(format!("not.{name}"), kind, &[class], move |x| {
            collect(bits, |at| !has(x[0], at))
        }));
        forms.push(form(format!("cnot.{name}"), kind, &[class], move |x| {
            u64::from(collect(bits, |at| has(x[0], at)) == 0)
        }));
        if bits > 16 {
            forms.push(form(format!("brev.{name}"), kind, &[class], move |x| {
                collect(bits, |at| has(x[0], bits - 1 - at))
            }));
            forms.push(form(format!("popc.{name}"), Kind::W, &[class], move |x| {
                (0..bits).filter(|at| has(x[0], *at)).count() as u64
            }));
            forms.push(form(format!("clz.{name}"), Kind::W, &[class], move |x| {
                (0..bits).take_while(|at| !has(x[0], bits - 1 - at)).count() as u64
            }));
        }
    }
    for (op, f) in [
        ("and", (|a, b| a & b) as fn(u64, u64) -> u64),
        ("or", |a, b| a | b),
        ("xor", |a, b| a ^ b),
    ] {
        forms.push(form(
            format!("{op}.pred"),
            Kind::P,
            &[Class::Bool; 2],
            move |x| f(x[0], x[1]),
        ));
        let line = format!("{op}.pred D0, !S0, S1");
        forms.push(body(line, &[Kind::P], &[Class::Bool; 2], move |x| {
            vec![f(1 - x[0], x[1])]
        }));
    }
    forms.push(form("not.pred", Kind::P, &[Class::Bool], |x| 1 - x[0]));
    for table in (0..256u64)
        .step_by(5)
        .chain([0xc0, 0xea, 0x6a, 0x96, 0x80, 0xfe, 0xca, 0xe8, 0xff])
    {
        let reference = move |x: &[u64]| {
            collect(32, |at| {
                let index = [4, 2, 1]
                    .iter()
                    .zip(x)
                    .fold(0, |i, (w, x)| i + w * u32::from(has(*x, at)));
                has(table, index)
            })
        };
        let line = format!("lop3.b32 D0, S0, S1, S2, {table:#x}");
        forms.push(body(line, &[Kind::W], &[Class::I32; 3], move |x| {
            vec![reference(x)]
        }));
        if table % 85 == 0 {
            for (name, both) in [("and", true), ("or", false)] {
                let line = format!("lop3.{name}.b32 D0|D1, S0, S1, S2, {table:#x}, S3");
                let sources = [Class::I32, Class::I32, Class::I32, Class::Bool];
                forms.push(body(line, &[Kind::W, Kind::P], &sources, move |x| {
                    let (d, q) = (reference(x), x[3] == 1);
                    let p = if both { d != 0 && q } else { d != 0 || q };
                    vec![d, u64::from(p)]
                }));
            }
        }
    }
}

fn shifts(forms: &mut Vec<Form>) {
    for (name, class, kind, bits) in WIDTHS {
        let sources = [class, Class::Small];
        forms.push(form(format!("shl.b{name}"), kind, &sources, move |x| {
            collect(bits, |at| {
                u64::from(at) >= x[1] && has(x[0], at - x[1] as u32)
            })
        }));
        for letter in ["b", "u", "s"] {
            let signed = letter == "s";
            forms.push(form(
                format!("shr.{letter}{name}"),
                kind,
                &sources,
                move |x| {
                    let fill = signed && has(x[0], bits - 1);
                    collect(bits, |at| {
                        let from = u64::from(at) + x[1];
                        if from < u64::from(bits) {
                            has(x[0], from as u32)
                        } else {
                            fill
                        }
                    })
                },
            ));
        }
    }
    for (mode, wraps) in [("wrap", true), ("clamp", false)] {
        let amount = move |c: u64| {
            if wraps {
                (c % 32) as u32
            } else {
                c.min(32) as u32
            }
        };
        let sources = [Class::I32, Class::I32, Class::Small];
        let joined = |x: &[u64], at: u32| {
            if at < 32 {
                has(x[0], at)
            } else {
                has(x[1], at - 32)
            }
        };
        forms.push(form(
            format!("shf.l.{mode}.b32"),
            Kind::W,
            &sources,
            move |x| collect(32, |at| joined(x, at + 32 - amount(x[2]))),
        ));
        forms.push(form(
            format!("shf.r.{mode}.b32"),
            Kind::W,
            &sources,
            move |x| collect(32, |at| joined(x, at + amount(x[2]))),
        ));
    }
}

fn fields(forms: &mut Vec<Form>) {
    for (name, class, kind, bits) in &WIDTHS[1..] {
        let (class, kind, bits) = (*class, *kind, *bits);
        for letter in ["u", "s"] {
            let signed = letter == "s";
            let sources = [class, Class::Small, Class::Small];
            forms.push(form(
                format!("bfe.{letter}{name}"),
                kind,
                &sources,
                move |x| {
                    let (start, length) = (x[1] as u32 & 255, x[2] as u32 & 255);
                    let sign =
                        signed && length > 0 && has(x[0], (start + length - 1).min(bits - 1));
                    collect(bits, |at| {
                        if at < length && start + at < bits {
                            has(x[0], start + at)
                        } else {
                            sign
                        }
                    })
                },
            ));
            for amount in [false, true] {
                let opcode = format!(
                    "bfind{}.{letter}{name}",
                    if amount { ".shiftamt" } else { "" }
                );
                forms.push(form(opcode, Kind::W, &[class], move |x| {
                    let sign = signed && has(x[0], bits - 1);
                    match (0..bits).rev().find(|at| has(x[0], *at) != sign) {
                        None => u64::MAX,
                        Some(at) if amount => u64::from(bits - 1 - at),
                        Some(at) => u64::from(at),
                    }
                }));
            }
        }
        let sources = [class, class, Class::Small, Class::Small];
        forms.push(form(format!("bfi.b{name}"), kind, &sources, move |x| {
            let (start, length) = (x[2] as u32 & 255, x[3] as u32 & 255);
            collect(bits, |at| {
                let inside = at >= start && at - start < length;
                if inside {
                    has(x[0], at - start)
                } else {
                    has(x[1], at)
                }
            })
        }));
    }
    forms.push(form(
        "fns.b32",
        Kind::W,
        &[Class::I32, Class::Small, Class::I32],
        |x| {
            let (base, n) = (x[1] as i64, i64::from(x[2] as i32));
            if base > 31 {
                return u64::MAX;
            }
            let set = |at: &i64| x[0] >> at & 1 == 1;
            let found = match n {
                0 => Some(base).filter(set),
                1.. => (base..32).filter(set).nth(n as usize - 1),
                _ => (0..=base).rev().filter(set).nth((-n) as usize - 1),
            };
            found.map_or(u64::MAX, |at| at as u64)
        },
    ));
    for (mode, wraps) in [("wrap", true), ("clamp", false)] {
        forms.push(form(
            format!("bmsk.{mode}.b32"),
            Kind::W,
            &[Class::Small; 2],
            move |x| {
                let (from, count) = if wraps {
                    (x[0] % 32, x[1] % 32)
                } else {
                    (x[0], x[1])
                };
                collect(32, |at| {
                    u64::from(at) >= from && u64::from(at) - from < count
                })
            },
        ));
        for signed in [false, true] {
            let opcode = format!("szext.{mode}.{}32", if signed { "s" } else { "u" });
            forms.push(form(
                opcode,
                Kind::W,
                &[Class::I32, Class::Small],
                move |x| {
                    let bits = if wraps { x[1] % 32 } else { x[1].min(32) } as u32;
                    collect(32, |at| {
                        if at < bits {
                            has(x[0], at)
                        } else {
                            signed && bits > 0 && has(x[0], bits - 1)
                        }
                    })
                },
            ));
        }
    }
}

/// Bytes of `d` chosen from the eight of `a` and `b`, in every mode: for each selector the indices, highest byte first.
fn permutations(forms: &mut Vec<Form>) {
    let byte = |x: &[u64], index: u64| {
        let from = if index < 4 { x[0] } else { x[1] };
        from >> (8 * (index & 3)) & 255
    };
    forms.push(form("prmt.b32", Kind::W, &[Class::I32; 3], move |x| {
        (0..4).fold(0, |d, at| {
            let selector = x[2] >> (4 * at) & 15;
            let value = byte(x, selector & 7);
            let value = if selector < 8 {
                value
            } else if value < 128 {
                0
            } else {
                255
            };
            d | value << (8 * at)
        })
    }));
    let tables: [(&str, [u32; 4]); 6] = [
        ("f4e", [0x3210, 0x4321, 0x5432, 0x6543]),
        ("b4e", [0x5670, 0x6701, 0x7012, 0x0123]),
        ("rc8", [0x0000, 0x1111, 0x2222, 0x3333]),
        ("ecl", [0x3210, 0x3211, 0x3222, 0x3333]),
        ("ecr", [0x0000, 0x1110, 0x2210, 0x3210]),
        ("rc16", [0x1010, 0x3232, 0x1010, 0x3232]),
    ];
    for (mode, table) in tables {
        let sources = [Class::I32, Class::I32, Class::Small];
        forms.push(form(
            format!("prmt.b32.{mode}"),
            Kind::W,
            &sources,
            move |x| {
                let row = table[(x[2] & 3) as usize];
                (0..4).fold(0, |d, at| {
                    d | byte(x, u64::from(row >> (4 * at) & 15)) << (8 * at)
                })
            },
        ));
    }
}

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    logic(&mut forms);
    shifts(&mut forms);
    fields(&mut forms);
    permutations(&mut forms);
    forms
}

#[test]
fn bits() {
    run_all(&forms());
}
