//! f16 and bf16, single and packed, rounded from exact numbers.

use crate::harness::{Class, Form, Kind, form, run_all};
use crate::soft::{BF16, F16, Format, Mode};

/// A form on one 16-bit value and on two.
fn both(
    forms: &mut Vec<Form>,
    opcode: &str,
    format: Format,
    count: usize,
    f: impl Fn(&[u64]) -> u64 + Copy + 'static,
) {
    let (name, single, packed) = if format == F16 {
        ("f16", Class::F16, Class::F16x2)
    } else {
        ("bf16", Class::Bf16, Class::Bf16x2)
    };
    forms.push(form(
        format!("{opcode}.{name}"),
        Kind::H,
        &vec![single; count],
        f,
    ));
    forms.push(form(
        format!("{opcode}.{name}x2"),
        Kind::W,
        &vec![packed; count],
        move |x| {
            let half = |at: u32| {
                let sources: Vec<u64> = x.iter().map(|x| x >> at & 0xffff).collect();
                f(&sources) << at
            };
            half(0) | half(16)
        },
    ));
}

fn arithmetic(forms: &mut Vec<Form>, format: Format) {
    let sign = format.sign();
    // Modifiers: text, ftz, sat, relu.
    let all = [
        ("", false, false, false),
        (".ftz", true, false, false),
        (".sat", false, true, false),
        (".ftz.sat", true, true, false),
        (".relu", false, false, true),
        (".ftz.relu", true, false, true),
    ];
    for (suffix, ftz, sat, relu) in all {
        if format == BF16 && (ftz || sat) {
            continue;
        }
        let flush = move |x: u64| if ftz { format.flush(x) } else { x };
        let finish = move |x: u64| {
            let x = flush(x);
            if relu && format.negative(x) && !format.is_nan(x) {
                0
            } else if sat {
                format.saturate(x)
            } else {
                x
            }
        };
        both(forms, &format!("fma.rn{suffix}"), format, 3, move |x| {
            finish(format.fma(flush(x[0]), flush(x[1]), flush(x[2]), Mode::Nearest))
        });
        if relu {
            continue;
        }
        for rn in ["", ".rn"] {
            both(forms, &format!("add{rn}{suffix}"), format, 2, move |x| {
                finish(format.add(flush(x[0]), flush(x[1]), Mode::Nearest))
            });
            both(forms, &format!("sub{rn}{suffix}"), format, 2, move |x| {
                finish(format.add(flush(x[0]), flush(x[1]) ^ sign, Mode::Nearest))
            });
            both(forms, &format!("mul{rn}{suffix}"), format, 2, move |x| {
                finish(format.mul(flush(x[0]), flush(x[1]), Mode::Nearest))
            });
        }
        if sat {
            continue;
        }
        both(forms, &format!("abs{suffix}"), format, 1, move |x| {
            flush(x[0]) & !sign
        });
        both(forms, &format!("neg{suffix}"), format, 1, move |x| {
            flush(x[0]) ^ sign
        });
        for (name, largest) in [("min", false), ("max", true)] {
            for nan in [false, true] {
                let opcode = format!("{name}{suffix}{}", if nan { ".NaN" } else { "" });
                both(forms, &opcode, format, 2, move |x| {
                    format.extreme(flush(x[0]), flush(x[1]), largest, nan)
                });
                both(
                    forms,
                    &format!("{opcode}.xorsign.abs"),
                    format,
                    2,
                    move |x| {
                        let (a, b) = (flush(x[0]), flush(x[1]));
                        let magnitude = format.extreme(a & !sign, b & !sign, largest, nan);
                        if format.is_nan(magnitude) {
                            format.nan()
                        } else {
                            magnitude | (a ^ b) & sign
                        }
                    },
                );
            }
        }
    }
}

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    arithmetic(&mut forms, F16);
    arithmetic(&mut forms, BF16);
    forms
}

#[test]
fn halves() {
    run_all(&forms());
}
