//! `st.async` and `red.async`.

use super::Result;
use super::context::Lowering;
use super::mbarrier::pointer;
use super::modifiers::Modifiers;
use crate::exec::ops::atomic::Operation;
use crate::exec::ops::store_async::StoreAsync;
use crate::exec::{AsyncStore, Class, Extra, Order, Scope, handler, space};
use crate::num::ScalarType::*;
use crate::ptx::{Instruction, Operand};

/// What follows `st.async` or `red.async`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let reduces = modifiers.base == "red";
    if !modifiers.take("shared::cluster") || !modifiers.take("mbarrier::complete_tx::bytes") {
        return Err(lowering.unsupported(modifiers, "only to shared::cluster with an mbarrier"));
    }
    match (modifiers.order(), modifiers.scope(), reduces) {
        (None | Some(Order::Weak), None, false) => {}
        (Some(Order::Relaxed), Some(Scope::Cluster), true) => {}
        _ => return Err(lowering.unsupported(modifiers, "not with this order")),
    }
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let reduce = match reduces {
        true => modifiers.pick(Operation::from_name),
        false => None,
    };
    let known = match reduce {
        Some(operation) => {
            operation.reduces() && operation.allows(ty) && matches!(ty, B32 | U32 | S32 | U64 | B64)
        }
        None => !reduces && matches!(ty, B32 | B64 | U32 | U64 | S32 | S64 | F32 | F64),
    };
    let count = modifiers.pick(|part| match part {
        "v2" => Some(2),
        "v4" => Some(4),
        _ => None,
    });
    let count = count.unwrap_or(1);
    if !known || count * ty.bytes() > 16 || reduces && count > 1 {
        return Err(lowering.unsupported(modifiers, "not for this operation and type"));
    }
    lowering.expect_operands(instruction, 3)?;
    let operands = &instruction.operands;
    let values = match &operands[1] {
        Operand::Vector(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    if values.len() != count as usize {
        return Err(lowering.error(format!(
            "expected {count} registers, found {}",
            values.len()
        )));
    }
    let mut registers = Vec::new();
    for value in values {
        registers.push((lowering.source(value, ty)?, ty.bytes() == 8));
    }
    let store = AsyncStore {
        to: pointer(lowering, &operands[0], space::CLUSTER)?,
        mbarrier: pointer(lowering, &operands[2], space::CLUSTER)?,
        registers,
        ty,
        reduce,
    };
    let mut inst = lowering.inst(handler::<StoreAsync>());
    inst.ext = lowering.extra(Extra::Store(store));
    lowering.emit(Class::Async, inst);
    Ok(())
}
