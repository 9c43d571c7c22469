//! Arithmetic on f16 and bf16, single and packed.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::{Class, Handler, binary, ternary, ternary_or, unary};
use crate::num::HalfMode;
use crate::num::ScalarType::{self, *};
use crate::num::half::{self, packed1, packed2, packed3};
use crate::ptx::Instruction;

/// A handler of a function of 16-bit values, applied to both halves where the type is packed, for each mode that the
/// modifiers can ask for.
macro_rules! half_op {
    ($packed:expr, $mode:expr, |$m:ident, $($x:ident),+| $body:expr) => {{
        macro_rules! with_mode {
            ($ftz:literal, $sat:literal, $relu:literal) => {
                half_handler!($packed, |$($x),+| {
                    let $m = HalfMode { ftz: $ftz, sat: $sat, relu: $relu };
                    let _ = $m;
                    $body
                })
            };
        }
        match ($mode.ftz, $mode.sat, $mode.relu) {
            (false, false, false) => with_mode!(false, false, false),
            (true, false, false) => with_mode!(true, false, false),
            (false, true, false) => with_mode!(false, true, false),
            (true, true, false) => with_mode!(true, true, false),
            (false, false, true) => with_mode!(false, false, true),
            // Nothing has both .sat and .relu.
            (true, _, true) => with_mode!(true, false, true),
            (false, _, true) => with_mode!(false, false, true),
        }
    }};
}

/// The same for instructions that have `.ftz` alone.
macro_rules! half_flushed {
    ($packed:expr, $mode:expr, |$m:ident, $($x:ident),+| $body:expr) => {
        match ($mode.ftz, $mode.sat || $mode.relu) {
            (false, false) => half_handler!($packed, |$($x),+| {
                let $m = HalfMode { ftz: false, sat: false, relu: false };
                $body
            }),
            (true, false) => half_handler!($packed, |$($x),+| {
                let $m = HalfMode { ftz: true, sat: false, relu: false };
                $body
            }),
            _ => return None,
        }
    };
}

/// The same for instructions that have no mode.
macro_rules! half_plain {
    ($packed:expr, $mode:expr, |$($x:ident),+| $body:expr) => {
        match $mode == HalfMode::default() {
            true => half_handler!($packed, |$($x),+| $body),
            false => return None,
        }
    };
}

macro_rules! half_handler {
    ($packed:expr, |$a:ident| $body:expr) => {
        if $packed {
            unary::<u32, u32, _>(|a| packed1(a, |$a: u16| -> u16 { $body }))
        } else {
            unary::<u32, u32, _>(|$a| {
                let $a = $a as u16;
                let result: u16 = $body;
                u32::from(result)
            })
        }
    };
    ($packed:expr, |$a:ident, $b:ident| $body:expr) => {
        if $packed {
            binary::<u32, u32, u32, _>(|a, b| packed2(a, b, |$a: u16, $b: u16| -> u16 { $body }))
        } else {
            binary::<u32, u32, u32, _>(|$a, $b| {
                let ($a, $b) = ($a as u16, $b as u16);
                let result: u16 = $body;
                u32::from(result)
            })
        }
    };
    ($packed:expr, |$a:ident, $b:ident, $c:ident| $body:expr) => {
        if $packed {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| {
                packed3(a, b, c, |$a: u16, $b: u16, $c: u16| -> u16 { $body })
            })
        } else {
            ternary::<u32, u32, u32, u32, _>(|$a, $b, $c| {
                let ($a, $b, $c) = ($a as u16, $b as u16, $c as u16);
                let result: u16 = $body;
                u32::from(result)
            })
        }
    };
}

/// Instructions on f16 and bf16, `setp` and `set` included.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    match modifiers.base {
        "setp" => return super::compare::setp(lowering, instruction, modifiers),
        "set" => return super::compare::set(lowering, instruction, modifiers),
        _ => {}
    }
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let brain = matches!(ty, BF16 | BF16x2);
    let sums = matches!(modifiers.base, "add" | "sub" | "mul" | "fma");
    let rounded = sums && modifiers.take("rn");
    if modifiers.base == "fma" && !rounded {
        return Err(lowering.unsupported(modifiers, "it needs .rn"));
    }
    let exponential = modifiers.base == "ex2";
    let mode = HalfMode {
        ftz: modifiers.take("ftz"),
        sat: sums && !brain && modifiers.take("sat"),
        relu: modifiers.base == "fma" && modifiers.take("relu"),
    };
    if mode.ftz && (brain != exponential || modifiers.base == "tanh") || mode.sat && mode.relu {
        return Err(lowering.unsupported(modifiers, "these modifiers do not go together"));
    }
    if exponential && brain && !mode.ftz {
        return Err(lowering.unsupported(modifiers, "it needs .ftz"));
    }
    let Some((run, sources)) = handler_of(modifiers, ty, mode) else {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    };
    lowering.expect_operands(instruction, 1 + sources)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    if sources > 1 {
        inst.b = lowering.source32(&instruction.operands[2])?;
    }
    if sources > 2 {
        inst.c = lowering.source32(&instruction.operands[3])?;
    }
    lowering.emit(
        if sources == 1 {
            Class::Special
        } else {
            Class::Half
        },
        inst,
    );
    Ok(())
}

fn handler_of(
    modifiers: &mut Modifiers<'_>,
    ty: ScalarType,
    mode: HalfMode,
) -> Option<(Handler, usize)> {
    let packed = matches!(ty, F16x2 | BF16x2);
    let brain = matches!(ty, BF16 | BF16x2);
    // A modifier that the instruction does not have stays, and is refused.
    let extreme = matches!(modifiers.base, "min" | "max");
    let approximate = matches!(modifiers.base, "ex2" | "tanh") && modifiers.take("approx");
    let nan = extreme && modifiers.take("NaN");
    let xor_sign = extreme && modifiers.take("xorsign");
    if xor_sign && !modifiers.take("abs") {
        return None;
    }
    Some(match (modifiers.base, brain) {
        ("add", false) => (half_op!(packed, mode, |m, a, b| half::f16_add(a, b, m)), 2),
        ("sub", false) => (half_op!(packed, mode, |m, a, b| half::f16_sub(a, b, m)), 2),
        ("mul", false) => (half_op!(packed, mode, |m, a, b| half::f16_mul(a, b, m)), 2),
        ("fma", false) => (
            half_op!(packed, mode, |m, a, b, c| half::f16_fma(a, b, c, m)),
            3,
        ),
        ("add", true) => (half_op!(packed, mode, |m, a, b| half::bf16_add(a, b, m)), 2),
        ("sub", true) => (half_op!(packed, mode, |m, a, b| half::bf16_sub(a, b, m)), 2),
        ("mul", true) => (half_op!(packed, mode, |m, a, b| half::bf16_mul(a, b, m)), 2),
        ("fma", true) if mode == HalfMode::default() => (plain_fma(packed), 3),
        ("fma", true) => (
            half_op!(packed, mode, |m, a, b, c| half::bf16_fma(a, b, c, m)),
            3,
        ),
        ("min" | "max", _) if xor_sign => {
            return extreme_of_magnitudes(modifiers.base, packed, brain, nan, mode);
        }
        ("min", false) if nan => (
            half_flushed!(packed, mode, |m, a, b| half::f16_min_nan(a, b, m)),
            2,
        ),
        ("max", false) if nan => (
            half_flushed!(packed, mode, |m, a, b| half::f16_max_nan(a, b, m)),
            2,
        ),
        ("min", false) => (
            half_flushed!(packed, mode, |m, a, b| half::f16_min(a, b, m)),
            2,
        ),
        ("max", false) => (
            half_flushed!(packed, mode, |m, a, b| half::f16_max(a, b, m)),
            2,
        ),
        ("min", true) if nan => (
            half_flushed!(packed, mode, |m, a, b| half::bf16_min_nan(a, b, m)),
            2,
        ),
        ("max", true) if nan => (
            half_flushed!(packed, mode, |m, a, b| half::bf16_max_nan(a, b, m)),
            2,
        ),
        ("min", true) => (
            half_flushed!(packed, mode, |m, a, b| half::bf16_min(a, b, m)),
            2,
        ),
        ("max", true) => (
            half_flushed!(packed, mode, |m, a, b| half::bf16_max(a, b, m)),
            2,
        ),
        ("abs", false) => (
            half_flushed!(packed, mode, |m, a| half::abs(if m.ftz {
                half::f16_ftz(a)
            } else {
                a
            })),
            1,
        ),
        ("neg", false) => (
            half_flushed!(packed, mode, |m, a| half::neg(if m.ftz {
                half::f16_ftz(a)
            } else {
                a
            })),
            1,
        ),
        ("abs", true) => (half_plain!(packed, mode, |a| half::abs(a)), 1),
        ("neg", true) => (half_plain!(packed, mode, |a| half::neg(a)), 1),
        ("ex2", false) if approximate => (half_plain!(packed, mode, |a| half::ex2_f16(a)), 1),
        ("tanh", false) if approximate => (half_plain!(packed, mode, |a| half::tanh_f16(a)), 1),
        ("ex2", true) if approximate => (
            half_flushed!(packed, mode, |m, a| {
                let _ = m;
                half::ex2_bf16(a)
            }),
            1,
        ),
        ("tanh", true) if approximate => (half_plain!(packed, mode, |a| half::tanh_bf16(a)), 1),
        _ => return None,
    })
}

/// `fma.rn` of bf16 without modifiers, which kernels consist of.
fn plain_fma(packed: bool) -> Handler {
    if !packed {
        macro_rules! single {
            ($function:path) => {
                |a, b, c| {
                    let (result, right) = $function(a as u16, b as u16, c as u16);
                    (u32::from(result), right)
                }
            };
        }
        return ternary_or::<u32, u32, u32, u32, _, _, _>(
            single!(half::bf16_fma_fused),
            single!(half::bf16_fma_in_single),
            |a, b, c| {
                let mode = HalfMode::default();
                u32::from(half::bf16_fma(a as u16, b as u16, c as u16, mode))
            },
        );
    }
    macro_rules! both {
        ($function:path) => {
            |a, b, c| {
                let (low, low_right) = $function(a as u16, b as u16, c as u16);
                let [a, b, c] = [a >> 16, b >> 16, c >> 16];
                let (high, high_right) = $function(a as u16, b as u16, c as u16);
                (
                    u32::from(high) << 16 | u32::from(low),
                    low_right & high_right,
                )
            }
        };
    }
    ternary_or::<u32, u32, u32, u32, _, _, _>(
        both!(half::bf16_fma_fused),
        both!(half::bf16_fma_in_single),
        |a, b, c| {
            packed3(a, b, c, |a, b, c| {
                half::bf16_fma(a, b, c, HalfMode::default())
            })
        },
    )
}

/// `.xorsign.abs`: the extreme of the magnitudes, with the product of the signs.
fn extreme_of_magnitudes(
    base: &str,
    packed: bool,
    brain: bool,
    nan: bool,
    mode: HalfMode,
) -> Option<(Handler, usize)> {
    macro_rules! signed {
        ($function:path) => {
            half_flushed!(packed, mode, |m, a, b| half::xor_sign(
                $function(half::abs(a), half::abs(b), m),
                a,
                b
            ))
        };
    }
    let run = match (base, brain, nan) {
        ("min", false, false) => signed!(half::f16_min),
        ("max", false, false) => signed!(half::f16_max),
        ("min", false, true) => signed!(half::f16_min_nan),
        ("max", false, true) => signed!(half::f16_max_nan),
        ("min", true, false) => signed!(half::bf16_min),
        ("max", true, false) => signed!(half::bf16_max),
        ("min", true, true) => signed!(half::bf16_min_nan),
        _ => signed!(half::bf16_max_nan),
    };
    Some((run, 2))
}
