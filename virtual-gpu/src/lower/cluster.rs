//! `barrier.cluster`, `mapa`, `getctarank`.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::ops::cluster::{ClusterArrive, ClusterRank, ClusterWait, flag};
use crate::exec::{Class, Order, binary, handler, map, map_generic};
use crate::num::ScalarType;
use crate::ptx::Instruction;

/// `barrier.cluster.arrive` and `barrier.cluster.wait`; `.cluster` has been taken out.
pub fn barrier(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let arrives = modifiers.take("arrive");
    if !arrives && !modifiers.take("wait") {
        return Err(lowering.unsupported(modifiers, "it says neither .arrive nor .wait"));
    }
    let mut flags = match modifiers.take("aligned") {
        true => flag::ALIGNED,
        false => 0,
    };
    match (modifiers.order(), arrives) {
        (None | Some(Order::Release), true) | (None | Some(Order::Acquire), false) => {}
        (Some(Order::Relaxed), true) => flags |= flag::RELAXED,
        _ => return Err(lowering.unsupported(modifiers, "not with this order")),
    }
    lowering.expect_operands(instruction, 0)?;
    let mut inst = lowering.inst(match arrives {
        true => handler::<ClusterArrive>(),
        false => handler::<ClusterWait>(),
    });
    inst.flags = flags;
    lowering.emit(Class::Sync, inst);
    Ok(())
}

/// `mapa` and `getctarank`.
pub fn address(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let shared = modifiers.take("shared::cluster");
    let ty = match modifiers.last_type() {
        Some(ty @ (ScalarType::U32 | ScalarType::U64)) => ty,
        _ => return Err(lowering.unsupported(modifiers, "it needs the type .u32 or .u64")),
    };
    let wide = ty == ScalarType::U64;
    if !shared && !wide {
        return Err(lowering.unsupported(modifiers, "generic addresses have 64 bits"));
    }
    let operands = &instruction.operands;
    if modifiers.base == "getctarank" {
        lowering.expect_operands(instruction, 2)?;
        let mut inst = lowering.inst(handler::<ClusterRank>());
        inst.d = lowering.destination32(&operands[0])?;
        inst.a = lowering.source(&operands[1], ty)?;
        (inst.imm, inst.flags) = (u32::from(wide), u8::from(shared));
        lowering.emit(Class::Integer, inst);
        return Ok(());
    }
    lowering.expect_operands(instruction, 3)?;
    let mut inst = lowering.inst(match (shared, wide) {
        (true, false) => binary::<u32, u32, u32, _>(map),
        (true, true) => binary::<u64, u64, u32, _>(|a, rank| u64::from(map(a as u32, rank))),
        (false, _) => binary::<u64, u64, u32, _>(map_generic),
    });
    inst.d = lowering.destination(&operands[0], ty)?;
    inst.a = lowering.source(&operands[1], ty)?;
    inst.b = lowering.source32(&operands[2])?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}
