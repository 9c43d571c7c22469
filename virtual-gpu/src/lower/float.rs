//! Arithmetic on f32 and f64.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::{Class, Handler, binary, ternary, unary};
use crate::num::float32::{self, ftz};
use crate::num::{Rounding, ScalarType::*, approx, float64};
use crate::ptx::Instruction;

/// What the modifiers of an f32 instruction ask for.
#[derive(Clone, Copy)]
struct Mode {
    ftz: bool,
    saturate: bool,
    rounding: Rounding,
}

/// A handler of a function of f32 sources, with `.ftz`, `.sat` and the rounding as they are asked for. `$r` is the
/// rounding, a constant in each copy.
macro_rules! f32_op {
    ($mode:expr, |$r:ident, $($x:ident),+| $body:expr) => {{
        macro_rules! rounded {
            ($rounding:expr) => {
                match ($mode.ftz, $mode.saturate) {
                    (false, false) => f32_handler!(|$($x),+| { const $r: Rounding = $rounding; $body }),
                    (false, true) => f32_handler!(|$($x),+| { const $r: Rounding = $rounding; float32::saturate($body) }),
                    (true, false) => f32_handler!(|$($x),+| { const $r: Rounding = $rounding; $(let $x = ftz($x);)+ ftz($body) }),
                    (true, true) => f32_handler!(|$($x),+| { const $r: Rounding = $rounding; $(let $x = ftz($x);)+ float32::saturate(ftz($body)) }),
                }
            };
        }
        match $mode.rounding {
            Rounding::Nearest => rounded!(Rounding::Nearest),
            Rounding::Zero => rounded!(Rounding::Zero),
            Rounding::Down => rounded!(Rounding::Down),
            Rounding::Up => rounded!(Rounding::Up),
        }
    }};
}

/// The same without `.sat`.
macro_rules! f32_rounded {
    ($mode:expr, |$r:ident, $($x:ident),+| $body:expr) => {{
        macro_rules! rounded {
            ($rounding:expr) => {
                match ($mode.ftz, $mode.saturate) {
                    (false, false) => f32_handler!(|$($x),+| { const $r: Rounding = $rounding; $body }),
                    (true, false) => f32_handler!(|$($x),+| { const $r: Rounding = $rounding; $(let $x = ftz($x);)+ ftz($body) }),
                    (_, true) => return None,
                }
            };
        }
        match $mode.rounding {
            Rounding::Nearest => rounded!(Rounding::Nearest),
            Rounding::Zero => rounded!(Rounding::Zero),
            Rounding::Down => rounded!(Rounding::Down),
            Rounding::Up => rounded!(Rounding::Up),
        }
    }};
}

/// The same without `.sat` and rounding.
macro_rules! f32_plain {
    ($mode:expr, |$($x:ident),+| $body:expr) => {
        match ($mode.ftz, $mode.saturate) {
            (false, false) => f32_handler!(|$($x),+| $body),
            (true, false) => f32_handler!(|$($x),+| { $(let $x = ftz($x);)+ ftz($body) }),
            (_, true) => return None,
        }
    };
}

macro_rules! f32_handler {
    (|$a:ident| $body:expr) => {
        unary::<u32, u32, _>(|$a| {
            let $a = f32::from_bits($a);
            let result: f32 = $body;
            result.to_bits()
        })
    };
    (|$a:ident, $b:ident| $body:expr) => {
        binary::<u32, u32, u32, _>(|$a, $b| {
            let ($a, $b) = (f32::from_bits($a), f32::from_bits($b));
            let result: f32 = $body;
            result.to_bits()
        })
    };
    (|$a:ident, $b:ident, $c:ident| $body:expr) => {
        ternary::<u32, u32, u32, u32, _>(|$a, $b, $c| {
            let ($a, $b, $c) = (f32::from_bits($a), f32::from_bits($b), f32::from_bits($c));
            let result: f32 = $body;
            result.to_bits()
        })
    };
}

macro_rules! f64_op {
    ($rounding:expr, |$r:ident, $($x:ident),+| $body:expr) => {
        match $rounding {
            Rounding::Nearest => f64_handler!(|$($x),+| { const $r: Rounding = Rounding::Nearest; $body }),
            Rounding::Zero => f64_handler!(|$($x),+| { const $r: Rounding = Rounding::Zero; $body }),
            Rounding::Down => f64_handler!(|$($x),+| { const $r: Rounding = Rounding::Down; $body }),
            Rounding::Up => f64_handler!(|$($x),+| { const $r: Rounding = Rounding::Up; $body }),
        }
    };
}

macro_rules! f64_handler {
    (|$a:ident| $body:expr) => {
        unary::<u64, u64, _>(|$a| {
            let $a = f64::from_bits($a);
            let result: f64 = $body;
            result.to_bits()
        })
    };
    (|$a:ident, $b:ident| $body:expr) => {
        binary::<u64, u64, u64, _>(|$a, $b| {
            let ($a, $b) = (f64::from_bits($a), f64::from_bits($b));
            let result: f64 = $body;
            result.to_bits()
        })
    };
    (|$a:ident, $b:ident, $c:ident| $body:expr) => {
        ternary::<u64, u64, u64, u64, _>(|$a, $b, $c| {
            let ($a, $b, $c) = (f64::from_bits($a), f64::from_bits($b), f64::from_bits($c));
            let result: f64 = $body;
            result.to_bits()
        })
    };
}

/// Instructions on f32 and f64, `setp` and `set` included.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    match modifiers.base {
        "setp" => return super::compare::setp(lowering, instruction, modifiers),
        "set" => return super::compare::set(lowering, instruction, modifiers),
        "testp" => return testp(lowering, instruction, modifiers),
        _ => {}
    }
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let rounding = modifiers.rounding();
    let mode = Mode {
        ftz: modifiers.take("ftz"),
        saturate: modifiers.take("sat"),
        rounding: rounding.unwrap_or_default(),
    };
    if let Some(rule) = broken_rule(modifiers, mode, rounding.is_some()) {
        return Err(lowering.unsupported(modifiers, rule));
    }
    let extreme = matches!(modifiers.base, "min" | "max");
    let found = if ty == F32 && extreme && instruction.operands.len() == 4 {
        extreme_of_three(modifiers, mode).map(|run| (run, 3))
    } else if ty == F32 {
        single(modifiers, mode)
    } else {
        double(modifiers, mode)
    };
    let Some((run, sources)) = found else {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    };
    lowering.expect_operands(instruction, 1 + sources)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination(&instruction.operands[0], ty)?;
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    if sources > 1 {
        inst.b = lowering.source(&instruction.operands[2], ty)?;
    }
    if sources > 2 {
        inst.c = lowering.source(&instruction.operands[3], ty)?;
    }
    let special = matches!(
        modifiers.base,
        "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "div"
    );
    let class = match (special, ty) {
        (true, F32) => Class::Special,
        (_, F32) => Class::Float32,
        _ => Class::Float64,
    };
    lowering.emit(class, inst);
    Ok(())
}

/// What is wrong with the modifiers of an instruction.
fn broken_rule(modifiers: &Modifiers<'_>, mode: Mode, rounded: bool) -> Option<&'static str> {
    let approximate = modifiers
        .rest()
        .iter()
        .any(|part| matches!(*part, "approx" | "full"));
    let (may_round, must_round, may_saturate) = match modifiers.base {
        "add" | "sub" | "mul" => (true, false, true),
        "fma" | "mad" => (true, true, true),
        "div" | "rcp" | "sqrt" => (!approximate, !approximate, false),
        _ => (false, false, false),
    };
    if rounded && !may_round {
        Some("it takes no rounding")
    } else if must_round && !rounded {
        Some("it needs a rounding")
    } else if mode.saturate && !may_saturate {
        Some("it takes no .sat")
    } else if mode.ftz && matches!(modifiers.base, "copysign" | "tanh") {
        Some("it takes no .ftz")
    } else {
        None
    }
}

fn single(modifiers: &mut Modifiers<'_>, mode: Mode) -> Option<(Handler, usize)> {
    // A modifier that the instruction does not have stays, and is refused.
    let extreme = matches!(modifiers.base, "min" | "max");
    let sum = matches!(modifiers.base, "add" | "sub" | "mul" | "fma" | "mad");
    let approximate = !extreme && !sum && modifiers.take("approx");
    let full = modifiers.base == "div" && modifiers.take("full");
    let nan = extreme && modifiers.take("NaN");
    let xor_sign = extreme && modifiers.take("xorsign");
    let absolute = xor_sign && modifiers.take("abs");
    if approximate && full {
        return None;
    }
    Some(match modifiers.base {
        "add" => (f32_op!(mode, |R, a, b| float32::add(a, b, R)), 2),
        "sub" => (f32_op!(mode, |R, a, b| float32::add(a, -b, R)), 2),
        "mul" => (f32_op!(mode, |R, a, b| float32::mul(a, b, R)), 2),
        "fma" | "mad" => (f32_op!(mode, |R, a, b, c| float32::fma(a, b, c, R)), 3),
        "div" if approximate => (f32_plain!(mode, |a, b| approx::div_approx(a, b)), 2),
        "div" if full => (f32_plain!(mode, |a, b| approx::div_full(a, b)), 2),
        "div" => (f32_rounded!(mode, |R, a, b| float32::div(a, b, R)), 2),
        "rcp" if approximate => (f32_plain!(mode, |a| approx::rcp(a)), 1),
        "rcp" => (f32_rounded!(mode, |R, a| float32::rcp(a, R)), 1),
        "sqrt" if approximate => (f32_plain!(mode, |a| approx::sqrt(a)), 1),
        "sqrt" => (f32_rounded!(mode, |R, a| float32::sqrt(a, R)), 1),
        "rsqrt" if approximate => (f32_plain!(mode, |a| approx::rsqrt(a)), 1),
        "ex2" if approximate => (f32_plain!(mode, |a| approx::ex2(a)), 1),
        "lg2" if approximate => (f32_plain!(mode, |a| approx::lg2(a)), 1),
        "sin" if approximate => (f32_plain!(mode, |a| approx::sin(a)), 1),
        "cos" if approximate => (f32_plain!(mode, |a| approx::cos(a)), 1),
        "tanh" if approximate => (f32_plain!(mode, |a| approx::tanh(a)), 1),
        "min" if absolute && nan => (
            f32_plain!(mode, |a, b| float32::xor_sign(
                float32::min_nan(a.abs(), b.abs()),
                a,
                b
            )),
            2,
        ),
        "max" if absolute && nan => (
            f32_plain!(mode, |a, b| float32::xor_sign(
                float32::max_nan(a.abs(), b.abs()),
                a,
                b
            )),
            2,
        ),
        "min" if absolute => (
            f32_plain!(mode, |a, b| float32::xor_sign(
                float32::min(a.abs(), b.abs()),
                a,
                b
            )),
            2,
        ),
        "max" if absolute => (
            f32_plain!(mode, |a, b| float32::xor_sign(
                float32::max(a.abs(), b.abs()),
                a,
                b
            )),
            2,
        ),
        "min" | "max" if xor_sign => return None,
        "min" if nan => (f32_plain!(mode, |a, b| float32::min_nan(a, b)), 2),
        "max" if nan => (f32_plain!(mode, |a, b| float32::max_nan(a, b)), 2),
        "min" => (f32_plain!(mode, |a, b| float32::min(a, b)), 2),
        "max" => (f32_plain!(mode, |a, b| float32::max(a, b)), 2),
        "abs" => (f32_plain!(mode, |a| a.abs()), 1),
        "neg" => (f32_plain!(mode, |a| -a), 1),
        "copysign" => (f32_plain!(mode, |a, b| float32::copysign(a, b)), 2),
        _ => return None,
    })
}

/// `min` and `max` of three operands (from sm_100 on), of their magnitudes with `.abs`.
fn extreme_of_three(modifiers: &mut Modifiers<'_>, mode: Mode) -> Option<Handler> {
    use float32::{max, max_nan, min, min_nan};
    let nan = modifiers.take("NaN");
    let magnitudes = modifiers.take("abs");
    macro_rules! of_three {
        ($f:ident) => {
            match magnitudes {
                false => f32_plain!(mode, |a, b, c| $f($f(a, b), c)),
                true => f32_plain!(mode, |a, b, c| $f($f(a.abs(), b.abs()), c.abs())),
            }
        };
    }
    Some(match (modifiers.base, nan) {
        ("min", false) => of_three!(min),
        ("min", true) => of_three!(min_nan),
        ("max", false) => of_three!(max),
        ("max", true) => of_three!(max_nan),
        _ => return None,
    })
}

fn double(modifiers: &mut Modifiers<'_>, mode: Mode) -> Option<(Handler, usize)> {
    let approximate = matches!(modifiers.base, "rcp" | "rsqrt") && modifiers.take("approx");
    let rounding = mode.rounding;
    let unflushed = modifiers.base == "rcp" && approximate && !mode.ftz;
    if mode.saturate || unflushed || (mode.ftz && !approximate) {
        return None;
    }
    Some(match modifiers.base {
        "add" => (f64_op!(rounding, |R, a, b| float64::add(a, b, R)), 2),
        "sub" => (f64_op!(rounding, |R, a, b| float64::add(a, -b, R)), 2),
        "mul" => (f64_op!(rounding, |R, a, b| float64::mul(a, b, R)), 2),
        "fma" | "mad" => (f64_op!(rounding, |R, a, b, c| float64::fma(a, b, c, R)), 3),
        "div" => (f64_op!(rounding, |R, a, b| float64::div(a, b, R)), 2),
        // The approximate forms keep the upper 32 bits of the result and clear the lower ones.
        "rcp" if approximate => (
            f64_op!(rounding, |R, a| upper(float64::rcp(flush(a), R))),
            1,
        ),
        "rsqrt" if approximate => (
            f64_op!(rounding, |R, a| upper(float64::rcp(
                float64::sqrt(flush(a), R),
                R
            ))),
            1,
        ),
        "rcp" => (f64_op!(rounding, |R, a| float64::rcp(a, R)), 1),
        "sqrt" => (f64_op!(rounding, |R, a| float64::sqrt(a, R)), 1),
        "min" => (f64_handler!(|a, b| float64::min(a, b)), 2),
        "max" => (f64_handler!(|a, b| float64::max(a, b)), 2),
        "abs" => (f64_handler!(|a| a.abs()), 1),
        "neg" => (f64_handler!(|a| -a), 1),
        "copysign" => (f64_handler!(|a, b| b.copysign(a)), 2),
        _ => return None,
    })
}

fn upper(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & 0xffff_ffff_0000_0000)
}

fn flush(x: f64) -> f64 {
    if x.is_subnormal() {
        0f64.copysign(x)
    } else {
        x
    }
}

fn testp(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let ty = modifiers.last_type();
    macro_rules! test {
        ($method:expr) => {
            match ty {
                Some(F32) => unary::<bool, u32, _>(|a| {
                    $method(
                        f64::from(f32::from_bits(a)),
                        f32::from_bits(a).is_subnormal(),
                    )
                }),
                Some(F64) => unary::<bool, u64, _>(|a| {
                    $method(f64::from_bits(a), f64::from_bits(a).is_subnormal())
                }),
                _ => return Err(lowering.unsupported(modifiers, "not for this type")),
            }
        };
    }
    let run = match modifiers.first().unwrap_or_default() {
        "finite" => test!(|x: f64, _| x.is_finite()),
        "infinite" => test!(|x: f64, _| x.is_infinite()),
        "number" => test!(|x: f64, _| !x.is_nan()),
        "notanumber" => test!(|x: f64, _| x.is_nan()),
        "normal" => test!(|x: f64, tiny: bool| x.is_normal() && !tiny),
        "subnormal" => test!(|_, tiny: bool| tiny),
        _ => return Err(lowering.unsupported(modifiers, "unknown test")),
    };
    lowering.expect_operands(instruction, 2)?;
    let mut inst = lowering.inst(run);
    inst.p = lowering.destination_predicate(&instruction.operands[0])?;
    inst.a = lowering.source(&instruction.operands[1], ty.unwrap_or(F32))?;
    lowering.emit(Class::Float32, inst);
    Ok(())
}
