//! Sums of f32 whose other operands are f16 or bf16 (from sm_100 on).

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::{Class, Handler, binary, ternary};
use crate::num::Rounding;
use crate::num::float32;
use crate::num::half::{bf16_to_f32, f16_to_f32};
use crate::ptx::Instruction;

/// `add`, `sub` and `fma` of `.f32.f16` and `.f32.bf16`: the last operand and the result are f32, the others of the second
/// type; with a rounding, which `fma` needs, and `.sat`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    modifiers.take("f32");
    let brain = modifiers.take("bf16");
    if !brain {
        modifiers.take("f16");
    }
    let rounding = modifiers.rounding();
    let saturate = modifiers.take("sat");
    if modifiers.base == "fma" && rounding.is_none() {
        return Err(lowering.unsupported(modifiers, "it needs a rounding"));
    }
    let rounding = rounding.unwrap_or_default();
    let found = match (brain, saturate) {
        (false, false) => handler::<false, false>(modifiers.base, rounding),
        (false, true) => handler::<false, true>(modifiers.base, rounding),
        (true, false) => handler::<true, false>(modifiers.base, rounding),
        (true, true) => handler::<true, true>(modifiers.base, rounding),
    };
    let Some((run, sources)) = found else {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    };
    lowering.expect_operands(instruction, 1 + sources)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    if sources > 2 {
        inst.c = lowering.source32(&instruction.operands[3])?;
    }
    lowering.emit(Class::Float32, inst);
    Ok(())
}

fn handler<const BRAIN: bool, const SATURATE: bool>(
    base: &str,
    rounding: Rounding,
) -> Option<(Handler, usize)> {
    macro_rules! rounded {
        (|$r:ident| $handler:expr) => {
            match rounding {
                Rounding::Nearest => rounded!(@ $r, Rounding::Nearest, $handler),
                Rounding::Zero => rounded!(@ $r, Rounding::Zero, $handler),
                Rounding::Down => rounded!(@ $r, Rounding::Down, $handler),
                Rounding::Up => rounded!(@ $r, Rounding::Up, $handler),
            }
        };
        (@ $r:ident, $rounding:expr, $handler:expr) => {{
            const $r: Rounding = $rounding;
            $handler
        }};
    }
    Some(match base {
        "add" => (
            rounded!(|R| binary::<u32, u32, u32, _>(|a, c| {
                let sum = float32::add(wide::<BRAIN>(a), f32::from_bits(c), R);
                bits::<SATURATE>(sum)
            })),
            2,
        ),
        "sub" => (
            rounded!(|R| binary::<u32, u32, u32, _>(|a, c| {
                let difference = float32::add(wide::<BRAIN>(a), -f32::from_bits(c), R);
                bits::<SATURATE>(difference)
            })),
            2,
        ),
        "fma" => (
            rounded!(|R| ternary::<u32, u32, u32, u32, _>(|a, b, c| {
                let (a, b) = (wide::<BRAIN>(a), wide::<BRAIN>(b));
                bits::<SATURATE>(float32::fma(a, b, f32::from_bits(c), R))
            })),
            3,
        ),
        _ => return None,
    })
}

/// A number of 16 bits as f32.
#[inline(always)]
fn wide<const BRAIN: bool>(bits: u32) -> f32 {
    if BRAIN {
        bf16_to_f32(bits as u16)
    } else {
        f16_to_f32(bits as u16)
    }
}

#[inline(always)]
fn bits<const SATURATE: bool>(x: f32) -> u32 {
    if SATURATE {
        float32::saturate(x).to_bits()
    } else {
        x.to_bits()
    }
}
