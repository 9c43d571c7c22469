//! `cp.async`: copies from global to shared memory, a few bytes for each lane.

use super::Result;
use super::bulk;
use super::context::Lowering;
use super::modifiers::Modifiers;
use super::registers::Place;
use crate::exec::ops::copy::{Commit, Wait, WaitAll, start};
use crate::exec::{Access, AsyncCopy, Class, CopySource, Extra, Order, Scope, Slot, handler};
use crate::num::ScalarType;
use crate::ptx::{Address, Instruction, Operand};

/// `cp.async` in all its forms.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let reduces = modifiers.take("reduce");
    if !modifiers.take("async") {
        return Err(lowering.unsupported(modifiers, "only .async is"));
    }
    if modifiers.take("bulk") {
        return bulk::lower(lowering, instruction, modifiers, reduces);
    }
    if reduces {
        return Err(lowering.unsupported(modifiers, "only .bulk is"));
    }
    if modifiers.take("mbarrier") {
        return bulk::arrive(lowering, instruction, modifiers);
    }
    if modifiers.take("commit_group") {
        lowering.expect_operands(instruction, 0)?;
        let inst = lowering.inst(handler::<Commit>());
        lowering.emit(Class::Async, inst);
        return Ok(());
    }
    if modifiers.take("wait_all") {
        lowering.expect_operands(instruction, 0)?;
        let inst = lowering.inst(handler::<WaitAll>());
        lowering.emit(Class::Async, inst);
        return Ok(());
    }
    if modifiers.take("wait_group") {
        let mut inst = lowering.inst(handler::<Wait>());
        inst.imm = group_count(lowering, instruction)?;
        lowering.emit(Class::Async, inst);
        return Ok(());
    }
    copy(lowering, instruction, modifiers)
}

/// The constant of `wait_group`.
pub fn group_count(lowering: &Lowering<'_>, instruction: &Instruction) -> Result<u32> {
    lowering.expect_operands(instruction, 1)?;
    match instruction.operands[0] {
        Operand::Integer(count) if count <= u64::from(u32::MAX) => Ok(count as u32),
        _ => Err(lowering.error("wait_group takes a constant number of groups")),
    }
}

fn copy(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let around_l1 = modifiers.take("cg");
    if !around_l1 && !modifiers.take("ca") {
        return Err(lowering.unsupported(modifiers, "it says neither .ca nor .cg"));
    }
    let shared = modifiers.take("shared") || modifiers.take("shared::cta");
    if !shared || !modifiers.take("global") {
        return Err(lowering.unsupported(modifiers, "only .shared.global is"));
    }
    let policy = usize::from(modifiers.rest().contains(&"L2::cache_hint"));
    lowering.hint = modifiers.cache_hints();
    let operands = &instruction.operands;
    if operands.len() < 3 + policy || operands.len() > 4 + policy {
        return Err(lowering.error(format!("{} takes 3 or 4 operands", modifiers.opcode)));
    }
    let bytes = match operands[2] {
        Operand::Integer(bytes) => bytes,
        _ => return Err(lowering.error("the size of cp.async is a constant")),
    };
    let Some(run) = start(bytes).filter(|_| !around_l1 || bytes == 16) else {
        return Err(lowering.error(format!("{} cannot copy {bytes} bytes", modifiers.opcode)));
    };
    let mut inst = lowering.inst(run);
    let (a, to) = side(lowering, &operands[0])?;
    let (b, from) = side(lowering, &operands[1])?;
    (inst.a, inst.b) = (a, b);
    let mut source = CopySource::Whole;
    if operands.len() == 4 + policy {
        source = match &operands[3] {
            operand if is_predicate(lowering, operand) => {
                let (predicate, negated) = lowering.source_predicate(operand)?;
                inst.q = predicate;
                CopySource::Ignored(negated)
            }
            Operand::Integer(size) if *size == bytes => CopySource::Whole,
            operand => {
                inst.c = lowering.source32(operand)?;
                CopySource::Size
            }
        };
    }
    inst.ext = lowering.extra(Extra::Copy(AsyncCopy { to, from, source }));
    lowering.emit(Class::Async, inst);
    Ok(())
}

fn is_predicate(lowering: &mut Lowering<'_>, operand: &Operand) -> bool {
    match operand {
        Operand::Not(_) => true,
        Operand::Name(name) => matches!(lowering.register(name), Some(Place::Predicate(_))),
        _ => false,
    }
}

/// The address of one side of a copy.
fn side(lowering: &mut Lowering<'_>, operand: &Operand) -> Result<(Slot, Access)> {
    let Operand::Address(address) = operand else {
        return Err(lowering.error("expected an address in brackets"));
    };
    access(lowering, address)
}

fn access(lowering: &mut Lowering<'_>, address: &Address) -> Result<(Slot, Access)> {
    let (base, offset, wide_address) = lowering.address(address)?;
    let access = Access {
        ty: ScalarType::B8,
        registers: Vec::new(),
        offset,
        wide_address,
        order: Order::Weak,
        scope: Scope::Cta,
        used_bytes: u32::MAX,
        collective: false,
        asynchronous: true,
    };
    Ok((base, access))
}
