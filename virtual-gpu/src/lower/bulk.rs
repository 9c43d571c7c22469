//! `cp.async.bulk`, `cp.reduce.async.bulk` and `cp.async.mbarrier.arrive`.

use super::Result;
use super::context::Lowering;
use super::copy::group_count;
use super::function::nothing;
use super::mbarrier::{pointer, shared_or_generic};
use super::modifiers::Modifiers;
use crate::exec::ops::atomic::Operation;
use crate::exec::ops::bulk::{CommitBulk, StartBulk, WaitBulk};
use crate::exec::ops::mbarrier::ArriveAfterCopies;
use crate::exec::{BulkCopy, Class, Extra, MbarrierAccess, MbarrierOperation, handler, space};
use crate::num::ScalarType;
use crate::ptx::Instruction;

/// What follows `cp.async.bulk` or `cp.reduce.async.bulk`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
    reduces: bool,
) -> Result<()> {
    if modifiers.take("tensor") {
        return super::tensor_copy::lower(lowering, instruction, modifiers, reduces);
    }
    if !reduces && modifiers.take("commit_group") {
        lowering.expect_operands(instruction, 0)?;
        let inst = lowering.inst(handler::<CommitBulk>());
        lowering.emit(Class::Async, inst);
        return Ok(());
    }
    if !reduces && modifiers.take("wait_group") {
        let mut inst = lowering.inst(handler::<WaitBulk>());
        inst.flags = u8::from(modifiers.take("read"));
        inst.imm = group_count(lowering, instruction)?;
        lowering.emit(Class::Async, inst);
        return Ok(());
    }
    if !reduces && modifiers.take("prefetch") {
        modifiers.take("L2");
        modifiers.take("global");
        modifiers.cache_hints();
        nothing(lowering);
        return Ok(());
    }
    copy(lowering, instruction, modifiers, reduces)
}

/// The next state space.
pub fn side(modifiers: &mut Modifiers<'_>) -> Option<u8> {
    modifiers.pick(|part| {
        Some(match part {
            "global" => space::GLOBAL,
            "shared::cta" => space::SHARED,
            "shared::cluster" => space::CLUSTER,
            _ => return None,
        })
    })
}

fn copy(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
    reduces: bool,
) -> Result<()> {
    let (Some(to), Some(from)) = (side(modifiers), side(modifiers)) else {
        return Err(lowering.unsupported(modifiers, "it needs two state spaces"));
    };
    let counted = modifiers.take("mbarrier::complete_tx::bytes");
    let grouped = modifiers.take("bulk_group");
    let known = match (to, from) {
        (space::SHARED | space::CLUSTER, space::GLOBAL) => counted && !reduces,
        (space::CLUSTER, space::SHARED) => counted,
        (space::GLOBAL, space::SHARED) => grouped,
        _ => false,
    };
    if !known || counted == grouped {
        return Err(lowering.unsupported(modifiers, "not between these state spaces"));
    }
    let multicast = usize::from(modifiers.take("multicast::cluster"));
    if multicast == 1 && (to, from) != (space::CLUSTER, space::GLOBAL) {
        return Err(lowering.unsupported(
            modifiers,
            "only copies from global memory go to many blocks",
        ));
    }
    let policy = usize::from(modifiers.rest().contains(&"L2::cache_hint"));
    modifiers.cache_hints();
    let reduce = match reduces {
        true => Some(reduction(lowering, modifiers)?),
        false => None,
    };
    lowering.expect_operands(instruction, 3 + usize::from(counted) + multicast + policy)?;
    let operands = &instruction.operands;
    let copy = BulkCopy {
        to: pointer(lowering, &operands[0], to)?,
        from: pointer(lowering, &operands[1], from)?,
        mbarrier: match counted {
            true => Some(pointer(lowering, &operands[3], to)?),
            false => None,
        },
        reduce,
        multicast: match multicast {
            1 => Some(lowering.source32(&operands[4])?),
            _ => None,
        },
    };
    let mut inst = lowering.inst(handler::<StartBulk>());
    inst.c = lowering.source32(&operands[2])?;
    inst.ext = lowering.extra(Extra::Bulk(copy));
    lowering.emit(Class::Async, inst);
    Ok(())
}

fn reduction(
    lowering: &mut Lowering<'_>,
    modifiers: &mut Modifiers<'_>,
) -> Result<(Operation, ScalarType)> {
    modifiers.take("noftz");
    let ty = modifiers.last_type();
    let operation = modifiers.pick(Operation::from_name);
    match (operation, ty) {
        (Some(Operation::Exchange | Operation::CompareAndSwap), _) => {
            Err(lowering.unsupported(modifiers, "it is no reduction"))
        }
        (Some(operation), Some(ty)) if operation.allows(ty) => Ok((operation, ty)),
        _ => Err(lowering.unsupported(modifiers, "not for this operation and type")),
    }
}

/// `cp.async.mbarrier.arrive`.
pub fn arrive(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let no_increment = modifiers.take("noinc");
    if !modifiers.take("arrive") || !modifiers.take("b64") {
        return Err(lowering.unsupported(modifiers, "only .arrive of .b64 is"));
    }
    let space = shared_or_generic(modifiers);
    lowering.expect_operands(instruction, 1)?;
    let mut inst = lowering.inst(handler::<ArriveAfterCopies>());
    let pointer = pointer(lowering, &instruction.operands[0], space)?;
    inst.ext = lowering.extra(Extra::Mbarrier(MbarrierAccess {
        operation: MbarrierOperation::ArriveAfterCopies { no_increment },
        pointer,
        ordered: true,
    }));
    lowering.emit(Class::Async, inst);
    Ok(())
}
