//! Moves, address conversions and selections.

use super::Result;
use super::context::{Lowering, Symbol};
use super::modifiers::Modifiers;
use super::registers::Place;
use crate::exec::{Class, Constant, Inst, LaunchValue, Slot, binary, handler, ops, ternary, unary};
use crate::memory::{LOCAL_BASE, PARAMETER_BASE, SHARED_BASE, WINDOW};
use crate::num::{ScalarType, float32};
use crate::ptx::{Instruction, Operand};

/// `mov`, `cvta`, `isspacep`, `selp`, `slct`, `prmt`, `mapa`, `getctarank`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    match modifiers.base {
        "mov" => mov(lowering, instruction, modifiers),
        "cvta" => cvta(lowering, instruction, modifiers),
        "isspacep" => isspacep(lowering, instruction, modifiers),
        "selp" => selp(lowering, instruction, modifiers),
        "slct" => slct(lowering, instruction, modifiers),
        "prmt" => prmt(lowering, instruction, modifiers),
        _ => super::cluster::address(lowering, instruction, modifiers),
    }
}

fn type_of(lowering: &Lowering<'_>, modifiers: &mut Modifiers<'_>) -> Result<ScalarType> {
    modifiers
        .last_type()
        .ok_or_else(|| lowering.unsupported(modifiers, "it has no type"))
}

/// Copies a register of 32 bits or less.
pub fn copy32(lowering: &mut Lowering<'_>, d: Slot, a: Slot) {
    let mut inst = lowering.inst(unary::<u32, u32, _>(|a| a));
    (inst.d, inst.a) = (d, a);
    lowering.emit(Class::Move, inst);
}

/// Copies a 64-bit register.
pub fn copy64(lowering: &mut Lowering<'_>, d: Slot, a: Slot) {
    let mut inst = lowering.inst(unary::<u64, u64, _>(|a| a));
    (inst.d, inst.a) = (d, a);
    lowering.emit(Class::Move, inst);
}

fn mov(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let ty = type_of(lowering, modifiers)?;
    lowering.expect_operands(instruction, 2)?;
    let (to, from) = (&instruction.operands[0], &instruction.operands[1]);
    match (ty, to, from) {
        (ScalarType::Pred, _, _) => {
            let mut inst = lowering.inst(unary::<bool, bool, _>(|a| a));
            inst.p = lowering.destination_predicate(to)?;
            if matches!(from, Operand::Name(name) if name == "%is_explicit_cluster") {
                inst.handler = unary::<bool, u32, _>(|a| a != 0);
                inst.a = lowering.constant(Constant::Launch(LaunchValue::ExplicitCluster));
                lowering.emit(Class::Move, inst);
                return Ok(());
            }
            let (source, negated) = lowering.source_predicate(from)?;
            inst.q = source;
            if negated {
                inst.handler = unary::<bool, bool, _>(|a: bool| !a);
            }
            lowering.emit(Class::Move, inst);
            Ok(())
        }
        (_, Operand::Vector(parts), _) => unpack(lowering, ty, parts, from),
        (_, _, Operand::Vector(parts)) => pack(lowering, ty, to, parts),
        (_, _, Operand::Name(name)) if lowering.special(name).is_some() => {
            let Some(special) = lowering.special(name) else {
                return Ok(());
            };
            let mut inst = lowering.inst(handler::<ops::special::ReadSpecial>());
            inst.flags = special as u8;
            inst.imm = u32::from(ty.bytes() == 8);
            if special.is_wide() != (ty.bytes() == 8) {
                return Err(lowering.error(format!(
                    "{name} does not have the width of {}",
                    modifiers.opcode
                )));
            }
            inst.d = lowering.destination(to, ty)?;
            lowering.emit(Class::Move, inst);
            Ok(())
        }
        _ if !selectable(ty) && ty != ScalarType::F16 => {
            Err(lowering.unsupported(modifiers, "not for this type"))
        }
        _ if ty.bytes() == 8 => {
            let (d, a) = (lowering.destination64(to)?, lowering.source64(from)?);
            copy64(lowering, d, a);
            Ok(())
        }
        _ => {
            let (d, a) = (lowering.destination32(to)?, lowering.source32(from)?);
            copy32(lowering, d, a);
            Ok(())
        }
    }
}

/// `mov.b32 {a, b}, c` and its like.
fn unpack(
    lowering: &mut Lowering<'_>,
    ty: ScalarType,
    parts: &[Operand],
    from: &Operand,
) -> Result<()> {
    let run = match (ty.bytes(), parts.len()) {
        (8 | 4 | 2, 2) => ops::pack::unpack_pair(8 * ty.bytes()),
        (8, 4) => ops::pack::unpack64(),
        (4, 4) => ops::pack::unpack32(),
        _ => return Err(lowering.error("these parts do not make up a register of that type")),
    };
    let mut inst = lowering.inst(run);
    inst.a = if ty.bytes() == 8 {
        lowering.source64(from)?
    } else {
        lowering.source32(from)?
    };
    if let [first, second] = parts {
        inst.d = lowering.destination32(first)?;
        inst.imm = lowering.destination32(second)?.to_raw();
        lowering.emit(Class::Move, inst);
        return Ok(());
    }
    let slots: Result<Vec<Option<Slot>>> = parts
        .iter()
        .map(|part| match part {
            Operand::Sink => Ok(None),
            part => lowering.destination32(part).map(Some),
        })
        .collect();
    inst.ext = lowering.extra(crate::exec::Extra::Parts(slots?));
    lowering.emit(Class::Move, inst);
    Ok(())
}

/// `mov.b32 c, {a, b}` and its like.
fn pack(
    lowering: &mut Lowering<'_>,
    ty: ScalarType,
    to: &Operand,
    parts: &[Operand],
) -> Result<()> {
    let run = match (ty.bytes(), parts.len()) {
        (8 | 4 | 2, 2) => ops::pack::pack_pair(8 * ty.bytes()),
        (8, 4) => ops::pack::pack64(),
        (4, 4) => ops::pack::pack32(),
        _ => return Err(lowering.error("these parts do not make up a register of that type")),
    };
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination(to, ty)?;
    if let [first, second] = parts {
        (inst.a, inst.b) = (lowering.source32(first)?, lowering.source32(second)?);
        lowering.emit(Class::Move, inst);
        return Ok(());
    }
    let slots: Result<Vec<Option<Slot>>> = parts
        .iter()
        .map(|part| lowering.source32(part).map(Some))
        .collect();
    inst.ext = lowering.extra(crate::exec::Extra::Parts(slots?));
    lowering.emit(Class::Move, inst);
    Ok(())
}

fn cvta(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let ty = type_of(lowering, modifiers)?;
    let to = modifiers.take("to");
    let space = modifiers.first().unwrap_or_default();
    let base = match space {
        "global" | "const" => 0,
        "shared" | "shared::cta" | "shared::cluster" => SHARED_BASE,
        "local" => LOCAL_BASE,
        "param" | "param::entry" => PARAMETER_BASE,
        _ => return Err(lowering.unsupported(modifiers, "unknown state space")),
    };
    if ty.bytes() != 8 {
        return Err(lowering.unsupported(modifiers, "addresses have 64 bits"));
    }
    lowering.expect_operands(instruction, 2)?;
    let d = lowering.destination64(&instruction.operands[0])?;
    let a = lowering.source64(&instruction.operands[1])?;
    // Kernel parameters have their generic address from the start.
    let offset = match (to, space) {
        (_, "param" | "param::entry") => 0u64,
        (true, _) => base.wrapping_neg(),
        (false, _) => base,
    };
    if offset == 0 {
        copy64(lowering, d, a);
        return Ok(());
    }
    let mut inst = lowering.inst(binary::<u64, u64, u64, _>(|a, b| a.wrapping_add(b)));
    (inst.d, inst.a, inst.b) = (d, a, lowering.wide(offset));
    lowering.emit(Class::Integer, inst);
    Ok(())
}

fn isspacep(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let run = match modifiers.first().unwrap_or_default() {
        "global" => {
            unary::<bool, u64, _>(|a| crate::memory::Window::of(a) == crate::memory::Window::Global)
        }
        "shared::cluster" => unary::<bool, u64, _>(|a| a & !(WINDOW - 1) == SHARED_BASE),
        "shared" | "shared::cta" => return is_own_shared(lowering, instruction),
        "local" => unary::<bool, u64, _>(|a| a & !(WINDOW - 1) == LOCAL_BASE),
        "param" | "param::entry" => unary::<bool, u64, _>(|a| a & !(WINDOW - 1) == PARAMETER_BASE),
        _ => return Err(lowering.unsupported(modifiers, "unknown state space")),
    };
    lowering.expect_operands(instruction, 2)?;
    let mut inst = lowering.inst(run);
    inst.p = lowering.destination_predicate(&instruction.operands[0])?;
    inst.a = lowering.source64(&instruction.operands[1])?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

/// Whether a generic address is in the shared memory of the block itself.
fn is_own_shared(lowering: &mut Lowering<'_>, instruction: &Instruction) -> Result<()> {
    lowering.expect_operands(instruction, 2)?;
    let mut inst = lowering.inst(handler::<ops::cluster::IsOwnShared>());
    inst.p = lowering.destination_predicate(&instruction.operands[0])?;
    inst.a = lowering.source64(&instruction.operands[1])?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

fn selp(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let ty = type_of(lowering, modifiers)?;
    if !selectable(ty) {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    }
    lowering.expect_operands(instruction, 4)?;
    let [d, a, b, c] = &instruction.operands[..] else {
        return Ok(());
    };
    let mut inst = if ty.bytes() == 8 {
        lowering.inst(ternary::<u64, u64, u64, bool, _>(
            |a, b, c| if c { a } else { b },
        ))
    } else {
        lowering.inst(ternary::<u32, u32, u32, bool, _>(
            |a, b, c| if c { a } else { b },
        ))
    };
    inst.d = lowering.destination(d, ty)?;
    (inst.a, inst.b) = (lowering.source(a, ty)?, lowering.source(b, ty)?);
    let (predicate, negated) = lowering.source_predicate(c)?;
    inst.q = predicate;
    if negated {
        (inst.a, inst.b) = (inst.b, inst.a);
    }
    lowering.emit(Class::Move, inst);
    Ok(())
}

/// Types of `selp` and `slct`.
fn selectable(ty: ScalarType) -> bool {
    use ScalarType::*;
    matches!(
        ty,
        B16 | B32 | B64 | U16 | U32 | U64 | S16 | S32 | S64 | F32 | F64
    )
}

fn slct(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let ftz = modifiers.take("ftz");
    let types = modifiers.types();
    let &[ty, by] = &types[..] else {
        return Err(lowering.unsupported(modifiers, "it needs two types"));
    };
    if !selectable(ty) || (ftz && by != ScalarType::F32) {
        return Err(lowering.unsupported(modifiers, "not for these types"));
    }
    lowering.expect_operands(instruction, 4)?;
    let run = match (ty.bytes(), by) {
        // With .ftz a number that is too small to be normal is zero, of either sign.
        (2 | 4, ScalarType::F32) if ftz => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
            if float32::ftz(f32::from_bits(c)) >= 0.0 {
                a
            } else {
                b
            }
        }),
        (8, ScalarType::F32) if ftz => ternary::<u64, u64, u64, u32, _>(|a, b, c| {
            if float32::ftz(f32::from_bits(c)) >= 0.0 {
                a
            } else {
                b
            }
        }),
        (2 | 4, ScalarType::S32) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| if c as i32 >= 0 { a } else { b })
        }
        (8, ScalarType::S32) => {
            ternary::<u64, u64, u64, u32, _>(|a, b, c| if c as i32 >= 0 { a } else { b })
        }
        // A NaN and anything below zero choose the second; -0 is not below.
        (2 | 4, ScalarType::F32) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| if f32::from_bits(c) >= 0.0 { a } else { b })
        }
        (8, ScalarType::F32) => {
            ternary::<u64, u64, u64, u32, _>(|a, b, c| if f32::from_bits(c) >= 0.0 { a } else { b })
        }
        _ => return Err(lowering.unsupported(modifiers, "unknown types")),
    };
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination(&instruction.operands[0], ty)?;
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    inst.b = lowering.source(&instruction.operands[2], ty)?;
    inst.c = lowering.source32(&instruction.operands[3])?;
    lowering.emit(Class::Move, inst);
    Ok(())
}

fn prmt(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if !modifiers.take("b32") {
        return Err(lowering.unsupported(modifiers, "only .b32 is"));
    }
    lowering.expect_operands(instruction, 4)?;
    let run = match modifiers.first() {
        None => ternary::<u32, u32, u32, u32, _>(ops::pack::permute),
        Some("f4e") => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
            ops::pack::permute_by(a, b, [0, 1, 2, 3].map(|i| (c & 3) + i))
        }),
        Some("b4e") => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
            ops::pack::permute_by(a, b, [0, 1, 2, 3].map(|i| (c & 3).wrapping_sub(i) & 7))
        }),
        Some("rc8") => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| ops::pack::permute_by(a, b, [c & 3; 4]))
        }
        Some("ecl") => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
            ops::pack::permute_by(a, b, [0, 1, 2, 3].map(|i| i.max(c & 3)))
        }),
        Some("ecr") => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
            ops::pack::permute_by(a, b, [0, 1, 2, 3].map(|i| i.min(c & 3)))
        }),
        Some("rc16") => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
            let first = (c & 1) * 2;
            ops::pack::permute_by(a, b, [first, first + 1, first, first + 1])
        }),
        Some(_) => return Err(lowering.unsupported(modifiers, "unknown mode")),
    };
    let mut inst = lowering.inst(run);
    four32(lowering, &mut inst, instruction)?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

/// `d, a, b, c` of 32 bits.
pub fn four32(
    lowering: &mut Lowering<'_>,
    inst: &mut Inst,
    instruction: &Instruction,
) -> Result<()> {
    lowering.expect_operands(instruction, 4)?;
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    inst.c = lowering.source32(&instruction.operands[3])?;
    Ok(())
}

/// Whether an operand names a register of 64 bits.
pub fn is_wide(lowering: &mut Lowering<'_>, operand: &Operand) -> bool {
    matches!(operand, Operand::Name(name) if matches!(lowering.register(name), Some(Place::Wide(_))))
}

/// Rows of a `.param` of a device function that an operand names.
pub fn parameter_words(lowering: &Lowering<'_>, base: &str) -> Option<(Slot, u32)> {
    match lowering.symbol(base) {
        Some(Symbol::Words(slot, count)) => Some((slot, count)),
        _ => None,
    }
}
