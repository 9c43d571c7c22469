//! Integer arithmetic on two 16-bit values in a register.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::{Class, binary};
use crate::num::half::packed2;
use crate::ptx::Instruction;

/// `add`, `min` and `max` of `.u16x2` and `.s16x2`; `min` and `max` of signed values take `.relu`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let signed = modifiers.take("s16x2");
    if !signed {
        modifiers.take("u16x2");
    }
    let relu = modifiers.take("relu");
    macro_rules! halves {
        (|$a:ident, $b:ident| $body:expr) => {
            binary::<u32, u32, u32, _>(|a, b| packed2(a, b, |$a: u16, $b: u16| -> u16 { $body }))
        };
    }
    let run = match (modifiers.base, signed, relu) {
        ("add", _, false) => halves!(|a, b| a.wrapping_add(b)),
        ("min", false, false) => halves!(|a, b| a.min(b)),
        ("max", false, false) => halves!(|a, b| a.max(b)),
        ("min", true, false) => halves!(|a, b| (a as i16).min(b as i16) as u16),
        ("max", true, false) => halves!(|a, b| (a as i16).max(b as i16) as u16),
        ("min", true, true) => halves!(|a, b| (a as i16).min(b as i16).max(0) as u16),
        ("max", true, true) => halves!(|a, b| (a as i16).max(b as i16).max(0) as u16),
        _ => return Err(lowering.unsupported(modifiers, "not for this type")),
    };
    lowering.expect_operands(instruction, 3)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}
