//! Arithmetic on two f32 in a 64-bit register (`.f32x2`, from sm_100 on).

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::{Class, binary, ternary};
use crate::num::Rounding;
use crate::num::ScalarType::F64;
use crate::num::float32::{self, ftz, pair2, pair3};
use crate::ptx::Instruction;

/// `add`, `sub`, `mul` and `fma` of `.f32x2`, with a rounding, which `fma` needs, and `.ftz`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    modifiers.take("f32x2");
    let rounding = modifiers.rounding();
    let flush = modifiers.take("ftz");
    if modifiers.base == "fma" && rounding.is_none() {
        return Err(lowering.unsupported(modifiers, "it needs a rounding"));
    }
    macro_rules! two {
        (|$r:ident, $a:ident, $b:ident| $body:expr) => {
            rounded!(
                $r,
                binary::<u64, u64, u64, _>,
                |a, b| pair2(a, b),
                |$a, $b| $body
            )
        };
    }
    macro_rules! three {
        (|$r:ident, $a:ident, $b:ident, $c:ident| $body:expr) => {
            rounded!(
                $r,
                ternary::<u64, u64, u64, u64, _>,
                |a, b, c| pair3(a, b, c),
                |$a, $b, $c| $body
            )
        };
    }
    macro_rules! rounded {
        ($r:ident, $make:expr, |$($p:ident),+| $each:ident($($q:ident),+), |$($x:ident),+| $body:expr) => {
            match (rounding.unwrap_or_default(), flush) {
                (Rounding::Nearest, false) => rounded!(@ Rounding::Nearest, false, $r, $make, |$($p),+| $each, |$($x),+| $body),
                (Rounding::Nearest, true) => rounded!(@ Rounding::Nearest, true, $r, $make, |$($p),+| $each, |$($x),+| $body),
                (Rounding::Zero, false) => rounded!(@ Rounding::Zero, false, $r, $make, |$($p),+| $each, |$($x),+| $body),
                (Rounding::Zero, true) => rounded!(@ Rounding::Zero, true, $r, $make, |$($p),+| $each, |$($x),+| $body),
                (Rounding::Down, false) => rounded!(@ Rounding::Down, false, $r, $make, |$($p),+| $each, |$($x),+| $body),
                (Rounding::Down, true) => rounded!(@ Rounding::Down, true, $r, $make, |$($p),+| $each, |$($x),+| $body),
                (Rounding::Up, false) => rounded!(@ Rounding::Up, false, $r, $make, |$($p),+| $each, |$($x),+| $body),
                (Rounding::Up, true) => rounded!(@ Rounding::Up, true, $r, $make, |$($p),+| $each, |$($x),+| $body),
            }
        };
        (@ $rounding:expr, $flush:literal, $r:ident, $make:expr, |$($p:ident),+| $each:ident, |$($x:ident),+| $body:expr) => {
            $make(|$($p),+| $each($($p,)+ |$($x),+| {
                const $r: Rounding = $rounding;
                let flushed = |x: f32| if $flush { ftz(x) } else { x };
                $(let $x = flushed($x);)+
                flushed($body)
            }))
        };
    }
    let (run, sources) = match modifiers.base {
        "add" => (two!(|R, a, b| float32::add(a, b, R)), 2),
        "sub" => (two!(|R, a, b| float32::add(a, -b, R)), 2),
        "mul" => (two!(|R, a, b| float32::mul(a, b, R)), 2),
        "fma" => (three!(|R, a, b, c| float32::fma(a, b, c, R)), 3),
        _ => return Err(lowering.unsupported(modifiers, "not for this type")),
    };
    lowering.expect_operands(instruction, 1 + sources)?;
    let mut inst = lowering.inst(run);
    // As wide as an f64.
    inst.d = lowering.destination(&instruction.operands[0], F64)?;
    inst.a = lowering.source(&instruction.operands[1], F64)?;
    inst.b = lowering.source(&instruction.operands[2], F64)?;
    if sources > 2 {
        inst.c = lowering.source(&instruction.operands[3], F64)?;
    }
    lowering.emit(Class::Float32, inst);
    Ok(())
}
