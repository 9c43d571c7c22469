//! Approximate functions, within the errors that PTX documents.

use crate::harness::{Class, Form, Kind, bounded, run_all};
use crate::soft::{BF16, F16, F32, F64, Format, Mode};

fn value(format: Format, x: u64) -> f64 {
    f64::from_bits(F64.round_number(&format.decode(x), Mode::Nearest))
}

/// Whether `got` is near `want`: within a relative or an absolute error, or both too small to be normal, or infinite
/// where the true result is beyond the largest number.
fn near(format: Format, got: u64, want: f64, relative: f64, absolute: f64) -> bool {
    if want.is_nan() {
        return got == format.nan();
    }
    let got = value(format, got);
    let (smallest, largest) = (
        value(format, 1 << format.mantissa),
        value(format, format.infinity() - 1),
    );
    if want.abs() > largest {
        return got.is_infinite() && got.is_sign_negative() == want.is_sign_negative()
            || (want.abs().is_finite() && (got / want - 1.0).abs() <= 2.0 * relative);
    }
    (got - want).abs() <= want.abs() * relative + absolute
        || (want.abs() < smallest && got.abs() <= smallest)
}

struct Function {
    name: &'static str,
    f: fn(f64) -> f64,
    relative: f64,
    absolute: f64,
    /// Magnitudes up to which the error is documented.
    domain: f64,
}

const TINY: f64 = 1.0 / (1u64 << 23) as f64;

const FUNCTIONS: [Function; 8] = [
    Function {
        name: "rcp",
        f: |x| 1.0 / x,
        relative: TINY,
        absolute: 0.0,
        domain: f64::INFINITY,
    },
    Function {
        name: "sqrt",
        f: f64::sqrt,
        relative: 1.5 * TINY,
        absolute: 0.0,
        domain: f64::INFINITY,
    },
    Function {
        name: "rsqrt",
        f: |x| 1.0 / x.sqrt(),
        relative: 1.6 * TINY,
        absolute: 0.0,
        domain: f64::INFINITY,
    },
    Function {
        name: "ex2",
        f: f64::exp2,
        relative: 2.0 * TINY,
        absolute: 0.0,
        domain: f64::INFINITY,
    },
    Function {
        name: "lg2",
        f: f64::log2,
        relative: TINY,
        absolute: 2.0 * TINY,
        domain: f64::INFINITY,
    },
    Function {
        name: "sin",
        f: f64::sin,
        relative: 0.0,
        absolute: 5.0 * TINY,
        domain: 3.125,
    },
    Function {
        name: "cos",
        f: f64::cos,
        relative: 0.0,
        absolute: 5.0 * TINY,
        domain: 3.125,
    },
    Function {
        name: "tanh",
        f: f64::tanh,
        relative: 4096.0 * TINY,
        absolute: 0.0,
        domain: f64::INFINITY,
    },
];

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for Function {
        name,
        f,
        relative,
        absolute,
        domain,
    } in FUNCTIONS
    {
        for ftz in ["", ".ftz"] {
            if name == "tanh" && !ftz.is_empty() {
                continue;
            }
            forms.push(bounded(
                format!("{name}.approx{ftz}.f32"),
                Kind::W,
                &[Class::F32],
                move |x, y| {
                    let x = value(
                        F32,
                        if ftz.is_empty() {
                            x[0]
                        } else {
                            F32.flush(x[0])
                        },
                    );
                    if x.is_infinite() && matches!(name, "sin" | "cos") {
                        return y == F32.nan();
                    }
                    let inside = x.is_nan() || x.abs() <= domain;
                    // Beyond the domain the functions still have a range.
                    (!inside && value(F32, y).abs() <= 1.0)
                        || (inside && near(F32, y, f(x), relative, absolute))
                },
            ));
        }
    }
    for ftz in ["", ".ftz"] {
        for kind in ["approx", "full"] {
            forms.push(bounded(
                format!("div.{kind}{ftz}.f32"),
                Kind::W,
                &[Class::F32; 2],
                move |x, y| {
                    let [a, b] = [x[0], x[1]]
                        .map(|x| value(F32, if ftz.is_empty() { x } else { F32.flush(x) }));
                    // Divisors beyond 2^126 give zero, or NaN of an infinity, in the approximate form.
                    let large = kind == "approx" && b.abs() > 2f64.powi(126) && b.is_finite();
                    if large {
                        return F32.is_nan(y) == (a.is_infinite() || a.is_nan())
                            || near(F32, y, a / b, 2.0 * TINY, 0.0);
                    }
                    near(F32, y, a / b, 3.0 * TINY, 0.0)
                },
            ));
        }
    }
    for (opcode, f) in [
        ("rcp.approx.ftz.f64", (|x| 1.0 / x) as fn(f64) -> f64),
        ("rsqrt.approx.ftz.f64", |x| 1.0 / x.sqrt()),
        ("rsqrt.approx.f64", |x| 1.0 / x.sqrt()),
    ] {
        forms.push(bounded(opcode, Kind::D, &[Class::F64], move |x, y| {
            let want = f(value(F64, F64.flush(x[0])));
            let low = y & 0xffff_ffff;
            low == 0 && (want.is_nan() && F64.is_nan(y) || near(F64, y, want, 1e-6, 0.0))
        }));
    }
    for (name, f) in [
        ("ex2.approx", f64::exp2 as fn(f64) -> f64),
        ("tanh.approx", f64::tanh),
    ] {
        for (suffix, format, single, packed) in [
            ("f16", F16, Class::F16, Class::F16x2),
            ("bf16", BF16, Class::Bf16, Class::Bf16x2),
        ] {
            let ftz = if format == BF16 && name.starts_with("ex2") {
                ".ftz"
            } else {
                ""
            };
            let error = 2f64.powi(-(format.mantissa as i32));
            let judge = move |x: u64, y: u64| near(format, y, f(value(format, x)), error, 0.0);
            forms.push(bounded(
                format!("{name}{ftz}.{suffix}"),
                Kind::H,
                &[single],
                move |x, y| judge(x[0], y),
            ));
            forms.push(bounded(
                format!("{name}{ftz}.{suffix}x2"),
                Kind::W,
                &[packed],
                move |x, y| judge(x[0] & 0xffff, y & 0xffff) && judge(x[0] >> 16, y >> 16),
            ));
        }
    }
    forms
}

#[test]
fn approximate() {
    run_all(&forms());
}
