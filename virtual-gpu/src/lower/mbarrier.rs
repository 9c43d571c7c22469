//! `mbarrier`.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::mbarrier::pending_count;
use crate::exec::ops::mbarrier::{Operate, RETURNS, WaitPhase};
use crate::exec::{
    Class, Extra, MbarrierAccess, MbarrierOperation, Order, Pointer, handler, space, unary,
};
use crate::ptx::{Instruction, Operand};

/// `mbarrier` in all its forms.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if !modifiers.take("b64") {
        return Err(lowering.unsupported(modifiers, "it has no type .b64"));
    }
    match modifiers.first().unwrap_or_default() {
        "init" => operate(lowering, instruction, modifiers, MbarrierOperation::Init),
        "inval" => operate(
            lowering,
            instruction,
            modifiers,
            MbarrierOperation::Invalidate,
        ),
        "expect_tx" => operate(
            lowering,
            instruction,
            modifiers,
            MbarrierOperation::ExpectTx,
        ),
        "complete_tx" => operate(
            lowering,
            instruction,
            modifiers,
            MbarrierOperation::CompleteTx,
        ),
        "arrive" => arrive(lowering, instruction, modifiers, false),
        "arrive_drop" => arrive(lowering, instruction, modifiers, true),
        "test_wait" => wait(lowering, instruction, modifiers, false),
        "try_wait" => wait(lowering, instruction, modifiers, true),
        "pending_count" => {
            lowering.expect_operands(instruction, 2)?;
            let mut inst = lowering.inst(unary::<u32, u64, _>(pending_count));
            inst.d = lowering.destination32(&instruction.operands[0])?;
            inst.a = lowering.source64(&instruction.operands[1])?;
            lowering.emit(Class::Sync, inst);
            Ok(())
        }
        _ => Err(lowering.unsupported(modifiers, "unknown operation")),
    }
}

/// The state space of an mbarrier: shared memory of the block or of its cluster, or a generic address in it.
pub fn shared_or_generic(modifiers: &mut Modifiers<'_>) -> u8 {
    let shared = |part: &str| {
        Some(match part {
            "shared" | "shared::cta" => space::SHARED,
            "shared::cluster" => space::CLUSTER,
            _ => return None,
        })
    };
    modifiers.pick(shared).unwrap_or(space::GENERIC)
}

/// An operand `[address]` in a state space.
pub fn pointer(lowering: &mut Lowering<'_>, operand: &Operand, space: u8) -> Result<Pointer> {
    let Operand::Address(address) = operand else {
        return Err(lowering.error("expected an address in brackets"));
    };
    let (base, offset, wide) = lowering.address(address)?;
    Ok(Pointer {
        base,
        wide,
        offset,
        space,
    })
}

/// Whether the operation orders memory accesses: all but `.relaxed` do.
fn ordered(modifiers: &mut Modifiers<'_>) -> bool {
    let order = modifiers.order();
    modifiers.scope();
    order != Some(Order::Relaxed)
}

fn operate(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
    operation: MbarrierOperation,
) -> Result<()> {
    let ordered = ordered(modifiers);
    let space = shared_or_generic(modifiers);
    let has_operand = operation != MbarrierOperation::Invalidate;
    lowering.expect_operands(instruction, 1 + usize::from(has_operand))?;
    let mut inst = lowering.inst(handler::<Operate>());
    if has_operand {
        inst.b = lowering.source32(&instruction.operands[1])?;
    }
    let pointer = pointer(lowering, &instruction.operands[0], space)?;
    inst.ext = lowering.extra(Extra::Mbarrier(MbarrierAccess {
        operation,
        pointer,
        ordered,
    }));
    lowering.emit(Class::Sync, inst);
    Ok(())
}

fn arrive(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
    drop: bool,
) -> Result<()> {
    let expect = modifiers.take("expect_tx");
    let no_complete = modifiers.take("noComplete");
    let ordered = ordered(modifiers);
    let space = shared_or_generic(modifiers);
    let operands = &instruction.operands;
    // Without a state the address comes first; an arrival without a count is one of one thread.
    let place = usize::from(!matches!(operands.first(), Some(Operand::Address(_))));
    let needed = place + 1 + usize::from(expect || no_complete);
    if operands.len() < needed || operands.len() > place + 2 {
        return Err(lowering.error(format!(
            "{} has a wrong number of operands",
            modifiers.opcode
        )));
    }
    let mut inst = lowering.inst(handler::<Operate>());
    inst.b = match operands.get(place + 1) {
        Some(count) => lowering.source32(count)?,
        None => lowering.narrow(1),
    };
    if place == 1 && operands[0] != Operand::Sink {
        if space == space::CLUSTER {
            return Err(lowering.unsupported(modifiers, "arrivals in other blocks return no state"));
        }
        inst.d = lowering.destination64(&operands[0])?;
        inst.flags = RETURNS;
    }
    let pointer = pointer(lowering, &operands[place], space)?;
    let operation = MbarrierOperation::Arrive {
        drop,
        expect,
        no_complete,
    };
    inst.ext = lowering.extra(Extra::Mbarrier(MbarrierAccess {
        operation,
        pointer,
        ordered,
    }));
    lowering.emit(Class::Sync, inst);
    Ok(())
}

fn wait(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
    suspends: bool,
) -> Result<()> {
    let parity = modifiers.take("parity");
    let ordered = ordered(modifiers);
    let space = shared_or_generic(modifiers);
    let operands = &instruction.operands;
    // `try_wait` may say how long it waits at most, which is up to the implementation anyway.
    if operands.len() < 3 || operands.len() > 3 + usize::from(suspends) {
        return Err(lowering.error(format!("{} takes 3 operands", modifiers.opcode)));
    }
    let mut inst = lowering.inst(handler::<WaitPhase>());
    inst.p = lowering.destination_predicate(&operands[0])?;
    inst.b = if parity {
        lowering.source32(&operands[2])?
    } else {
        lowering.source64(&operands[2])?
    };
    let pointer = pointer(lowering, &operands[1], space)?;
    inst.ext = lowering.extra(Extra::Mbarrier(MbarrierAccess {
        operation: MbarrierOperation::Wait { suspends, parity },
        pointer,
        ordered,
    }));
    lowering.emit(Class::Sync, inst);
    Ok(())
}
