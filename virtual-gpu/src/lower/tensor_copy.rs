//! `cp.async.bulk.tensor`, `cp.reduce.async.bulk.tensor` and their prefetch.

use super::Result;
use super::bulk::side;
use super::context::Lowering;
use super::function::nothing;
use super::mbarrier::pointer;
use super::modifiers::Modifiers;
use crate::exec::ops::atomic::Operation;
use crate::exec::ops::tensor_copy::StartBox;
use crate::exec::{Class, Extra, Pointer, Slot, TensorCopy, handler, space};
use crate::ptx::{Instruction, Operand};

/// What follows `cp.async.bulk.tensor` or `cp.reduce.async.bulk.tensor`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
    reduces: bool,
) -> Result<()> {
    let rank = modifiers.pick(|part| {
        let digit = part.strip_suffix('d')?.parse::<usize>().ok()?;
        (1..=5).contains(&digit).then_some(digit)
    });
    let Some(rank) = rank else {
        return Err(lowering.unsupported(modifiers, "it has none of the dimensions .1d to .5d"));
    };
    let mode = |part: &&&str| part.starts_with("im2col") || part.starts_with("tile::");
    if let Some(mode) = modifiers.rest().iter().find(mode) {
        return Err(lowering.unsupported(modifiers, &format!("mode .{mode}")));
    }
    modifiers.take("tile");
    let operands = &instruction.operands;
    if !reduces && modifiers.take("prefetch") {
        modifiers.take("L2");
        modifiers.take("global");
        modifiers.cache_hints();
        let operand = lowering.operand(instruction, 0)?;
        box_of(lowering, operand, rank)?;
        nothing(lowering);
        return Ok(());
    }
    let (Some(to), Some(from)) = (side(modifiers), side(modifiers)) else {
        return Err(lowering.unsupported(modifiers, "it needs two state spaces"));
    };
    let counted = modifiers.take("mbarrier::complete_tx::bytes");
    let grouped = modifiers.take("bulk_group");
    let multicast = usize::from(modifiers.take("multicast::cluster"));
    let loads = match (to, from) {
        (space::SHARED | space::CLUSTER, space::GLOBAL) if counted && !grouped && !reduces => true,
        (space::GLOBAL, space::SHARED) if grouped && !counted && multicast == 0 => false,
        _ => return Err(lowering.unsupported(modifiers, "not between these state spaces")),
    };
    if multicast == 1 && to != space::CLUSTER {
        return Err(lowering.unsupported(
            modifiers,
            "only copies to shared::cluster go to many blocks",
        ));
    }
    let policy = usize::from(modifiers.rest().contains(&"L2::cache_hint"));
    modifiers.cache_hints();
    let reduce = match reduces {
        true => modifiers.pick(Operation::from_name),
        false => None,
    };
    if reduces && !reduce.is_some_and(Operation::reduces) {
        return Err(lowering.unsupported(modifiers, "it is no reduction"));
    }
    lowering.expect_operands(instruction, 2 + usize::from(loads) + multicast + policy)?;
    let (tensor, shared, space) = match loads {
        true => (1, 0, to),
        false => (0, 1, from),
    };
    let (map, coordinates) = box_of(lowering, &operands[tensor], rank)?;
    let copy = TensorCopy {
        map,
        coordinates,
        shared: pointer(lowering, &operands[shared], space)?,
        mbarrier: match loads {
            true => Some(pointer(lowering, &operands[2], to)?),
            false => None,
        },
        multicast: match multicast {
            1 => Some(lowering.source32(&operands[3])?),
            _ => None,
        },
        loads,
        reduce,
    };
    let mut inst = lowering.inst(handler::<StartBox>());
    inst.ext = lowering.extra(Extra::Tensor(copy));
    lowering.emit(Class::Async, inst);
    Ok(())
}

/// `[map, {coordinates}]`.
fn box_of(
    lowering: &mut Lowering<'_>,
    operand: &Operand,
    rank: usize,
) -> Result<(Pointer, Vec<Slot>)> {
    let Operand::Address(address) = operand else {
        return Err(lowering.error("expected a tensor map and coordinates in brackets"));
    };
    if address.coordinates.len() != rank {
        return Err(lowering.error(format!(
            "{rank} coordinates are needed, found {}",
            address.coordinates.len()
        )));
    }
    let mut coordinates = Vec::new();
    for coordinate in &address.coordinates {
        coordinates.push(lowering.source32(coordinate)?);
    }
    let mut plain = address.clone();
    plain.coordinates.clear();
    let map = pointer(lowering, &Operand::Address(plain), space::GENERIC)?;
    Ok((map, coordinates))
}
