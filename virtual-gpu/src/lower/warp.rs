//! Instructions that a warp or a block executes together.

use super::Result;
use super::context::Lowering;
use super::function::nothing;
use super::modifiers::Modifiers;
use crate::exec::ops::barrier::{BlockBarrier, WarpBarrier, flag};
use crate::exec::ops::warp::{ActiveMask, Elect, Match, Reduce, Shuffle, Vote, mode, reduce, vote};
use crate::exec::{Class, handler};
use crate::num::ScalarType::*;
use crate::ptx::{Instruction, Operand};

/// `bar`, `barrier`, `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`, `griddepcontrol`, `setmaxnreg`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    match modifiers.base {
        "bar" | "barrier" => barrier(lowering, instruction, modifiers),
        "shfl" => shuffle(lowering, instruction, modifiers),
        "vote" => votes(lowering, instruction, modifiers),
        "match" => match_lanes(lowering, instruction, modifiers),
        "redux" => redux(lowering, instruction, modifiers),
        "activemask" => {
            modifiers.take("b32");
            lowering.expect_operands(instruction, 1)?;
            let mut inst = lowering.inst(handler::<ActiveMask>());
            inst.d = lowering.destination32(lowering.operand(instruction, 0)?)?;
            lowering.emit(Class::Sync, inst);
            Ok(())
        }
        "elect" => elect(lowering, instruction, modifiers),
        "griddepcontrol" => {
            // One launch runs at a time: the one before has ended.
            if !modifiers.take("wait") && !modifiers.take("launch_dependents") {
                return Err(lowering.unsupported(modifiers, "unknown action"));
            }
            nothing(lowering);
            Ok(())
        }
        _ => setmaxnreg(lowering, instruction, modifiers),
    }
}

fn need_sync(lowering: &Lowering<'_>, modifiers: &mut Modifiers<'_>) -> Result<()> {
    if modifiers.take("sync") {
        Ok(())
    } else {
        Err(lowering.unsupported(modifiers, "only the .sync form is"))
    }
}

fn barrier(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if modifiers.take("warp") {
        need_sync(lowering, modifiers)?;
        lowering.expect_operands(instruction, 1)?;
        let mut inst = lowering.inst(handler::<WarpBarrier>());
        inst.a = lowering.source32(&instruction.operands[0])?;
        lowering.emit(Class::Sync, inst);
        return Ok(());
    }
    if modifiers.take("cluster") {
        return super::cluster::barrier(lowering, instruction, modifiers);
    }
    modifiers.take("cta");
    // `bar` is the aligned form of `barrier`.
    let aligned = modifiers.take("aligned") || modifiers.base == "bar";
    let mut inst = lowering.inst(handler::<BlockBarrier>());
    inst.flags = if aligned { flag::ALIGNED } else { 0 };
    let operands = &instruction.operands;
    let counted = if modifiers.take("sync") {
        operands.get(1)
    } else if modifiers.take("arrive") {
        inst.flags |= flag::ARRIVE;
        lowering.expect_operands(instruction, 2)?;
        operands.get(1)
    } else if modifiers.take("red") {
        let kind = modifiers.first().unwrap_or_default();
        inst.flags |= match kind {
            "and" => flag::AND,
            "or" => flag::OR,
            "popc" => flag::POPC,
            _ => return Err(lowering.unsupported(modifiers, "unknown reduction")),
        };
        modifiers.take(if kind == "popc" { "u32" } else { "pred" });
        if operands.len() != 3 && operands.len() != 4 {
            return Err(lowering.error("bar.red takes 3 or 4 operands"));
        }
        match kind {
            "popc" => inst.d = lowering.destination32(&operands[0])?,
            _ => inst.p = lowering.destination_predicate(&operands[0])?,
        }
        let (predicate, negated) = lowering.source_predicate(&operands[operands.len() - 1])?;
        inst.q = predicate;
        inst.flags |= if negated { flag::NEGATED } else { 0 };
        inst.a = lowering.source32(&operands[1])?;
        if operands.len() == 4 {
            inst.flags |= flag::COUNTED;
            inst.b = lowering.source32(&operands[2])?;
        }
        lowering.emit(Class::Sync, inst);
        return Ok(());
    } else {
        return Err(lowering.unsupported(modifiers, "unknown kind of barrier"));
    };
    inst.a = lowering.source32(lowering.operand(instruction, 0)?)?;
    if let Some(count) = counted {
        inst.flags |= flag::COUNTED;
        inst.b = lowering.source32(count)?;
    }
    lowering.emit(Class::Sync, inst);
    Ok(())
}

fn shuffle(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    need_sync(lowering, modifiers)?;
    let run = match modifiers.first().unwrap_or_default() {
        "up" => handler::<Shuffle<{ mode::UP }>>(),
        "down" => handler::<Shuffle<{ mode::DOWN }>>(),
        "bfly" => handler::<Shuffle<{ mode::BUTTERFLY }>>(),
        "idx" => handler::<Shuffle<{ mode::INDEX }>>(),
        _ => return Err(lowering.unsupported(modifiers, "unknown mode")),
    };
    if !modifiers.take("b32") {
        return Err(lowering.unsupported(modifiers, "only .b32 is"));
    }
    lowering.expect_operands(instruction, 5)?;
    let mut inst = lowering.inst(run);
    match &instruction.operands[0] {
        Operand::Pair(d, p) => {
            inst.d = lowering.destination32(d)?;
            inst.p = lowering.destination_predicate(p)?;
        }
        d => inst.d = lowering.destination32(d)?,
    }
    inst.a = lowering.source32(&instruction.operands[1])?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    inst.c = lowering.source32(&instruction.operands[3])?;
    inst.imm = lowering.source32(&instruction.operands[4])?.to_raw();
    lowering.emit(Class::Sync, inst);
    Ok(())
}

fn votes(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    need_sync(lowering, modifiers)?;
    let kind = modifiers.first().unwrap_or_default();
    let run = match kind {
        "all" => handler::<Vote<{ vote::ALL }>>(),
        "any" => handler::<Vote<{ vote::ANY }>>(),
        "uni" => handler::<Vote<{ vote::UNIFORM }>>(),
        "ballot" => handler::<Vote<{ vote::BALLOT }>>(),
        _ => return Err(lowering.unsupported(modifiers, "unknown mode")),
    };
    modifiers.take(if kind == "ballot" { "b32" } else { "pred" });
    lowering.expect_operands(instruction, 3)?;
    let mut inst = lowering.inst(run);
    if kind == "ballot" {
        inst.d = lowering.destination32(&instruction.operands[0])?;
    } else {
        inst.p = lowering.destination_predicate(&instruction.operands[0])?;
    }
    let (predicate, negated) = lowering.source_predicate(&instruction.operands[1])?;
    inst.q = predicate;
    inst.flags = u8::from(negated);
    inst.a = lowering.source32(&instruction.operands[2])?;
    lowering.emit(Class::Sync, inst);
    Ok(())
}

fn match_lanes(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    need_sync(lowering, modifiers)?;
    let all = modifiers.take("all");
    if !all && !modifiers.take("any") {
        return Err(lowering.unsupported(modifiers, "unknown mode"));
    }
    let ty = match modifiers.last_type() {
        Some(ty @ (B32 | B64)) => ty,
        _ => return Err(lowering.unsupported(modifiers, "not for this type")),
    };
    lowering.expect_operands(instruction, 3)?;
    let mut inst = lowering.inst(if all {
        handler::<Match<true>>()
    } else {
        handler::<Match<false>>()
    });
    match &instruction.operands[0] {
        Operand::Pair(d, p) if all => {
            inst.d = lowering.destination32(d)?;
            inst.p = lowering.destination_predicate(p)?;
        }
        d => inst.d = lowering.destination32(d)?,
    }
    inst.flags = u8::from(ty == B64);
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    lowering.emit(Class::Sync, inst);
    Ok(())
}

fn redux(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    need_sync(lowering, modifiers)?;
    let ty = modifiers.last_type();
    let kind = modifiers.first().unwrap_or_default();
    let float = |modifiers: &mut Modifiers<'_>, kind: u8| {
        let magnitudes = if modifiers.take("abs") {
            reduce::FLOAT_ABS
        } else {
            0
        };
        let nan = if modifiers.take("NaN") {
            reduce::FLOAT_NAN
        } else {
            0
        };
        reduce::FLOAT | kind | magnitudes | nan
    };
    let flags = match (kind, ty) {
        ("min", Some(F32)) => float(modifiers, 0),
        ("max", Some(F32)) => float(modifiers, reduce::FLOAT_MAX),
        ("add", Some(U32 | S32)) => reduce::ADD,
        ("min", Some(S32)) => reduce::MIN_SIGNED,
        ("max", Some(S32)) => reduce::MAX_SIGNED,
        ("min", Some(U32)) => reduce::MIN,
        ("max", Some(U32)) => reduce::MAX,
        ("and", Some(B32)) => reduce::AND,
        ("or", Some(B32)) => reduce::OR,
        ("xor", Some(B32)) => reduce::XOR,
        _ => return Err(lowering.unsupported(modifiers, "unknown reduction")),
    };
    lowering.expect_operands(instruction, 3)?;
    let mut inst = lowering.inst(handler::<Reduce>());
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    inst.flags = flags;
    lowering.emit(Class::Sync, inst);
    Ok(())
}

fn elect(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    need_sync(lowering, modifiers)?;
    lowering.expect_operands(instruction, 2)?;
    let Operand::Pair(d, p) = &instruction.operands[0] else {
        return Err(lowering.error("elect.sync writes d|p"));
    };
    let mut inst = lowering.inst(handler::<Elect>());
    if **d != Operand::Sink {
        inst.d = lowering.destination32(d)?;
        inst.flags = 1;
    }
    inst.p = lowering.destination_predicate(p)?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    lowering.emit(Class::Sync, inst);
    Ok(())
}

/// `setmaxnreg`: registers are not imitated, but what the instruction asks for must be possible.
fn setmaxnreg(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if !modifiers.take("inc") && !modifiers.take("dec") {
        return Err(lowering.unsupported(modifiers, "it says neither .inc nor .dec"));
    }
    need_sync(lowering, modifiers)?;
    modifiers.take("aligned");
    modifiers.take("u32");
    let Some(Operand::Integer(count)) = instruction.operands.first() else {
        return Err(lowering.error("setmaxnreg takes a constant"));
    };
    if !(24..=256).contains(count) || !count.is_multiple_of(8) {
        return Err(lowering.error(format!(
            "setmaxnreg takes a multiple of 8 from 24 to 256, not {count}"
        )));
    }
    nothing(lowering);
    Ok(())
}
