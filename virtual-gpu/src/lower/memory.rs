//! Loads, stores, atomics, fences and cache hints.

use super::Result;
use super::context::Lowering;
use super::function::nothing;
use super::modifiers::Modifiers;
use super::moves::parameter_words;
use super::registers::Place;
use crate::exec::ops::atomic::{Operation, atomic};
use crate::exec::ops::load_store::{load, store};
use crate::exec::{
    Access, CacheHint, Class, Extra, Order, Scope, Slot, handler, ops, space, unary,
};
use crate::num::ScalarType::{self, *};
use crate::ptx::{Address, Instruction, Operand};

/// `ld`, `st`, `atom`, `red`, `membar`, `fence` and hints.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if matches!(modifiers.base, "st" | "red") && modifiers.take("async") {
        return super::store_async::lower(lowering, instruction, modifiers);
    }
    match modifiers.base {
        "ld" | "ldu" | "st" => load_store(lowering, instruction, modifiers),
        "atom" | "red" => atomics(lowering, instruction, modifiers),
        "membar" | "fence" => fence(lowering, instruction, modifiers),
        "createpolicy" => {
            // A policy is an opaque word that only hints read.
            while modifiers.first().is_some() {}
            let d = lowering.destination64(lowering.operand(instruction, 0)?)?;
            let zero = lowering.wide(0);
            super::moves::copy64(lowering, d, zero);
            Ok(())
        }
        _ => hint(lowering, instruction, modifiers),
    }
}

/// Hints to caches, which change no result: `prefetch`, `prefetchu`, `applypriority`, `discard`.
fn hint(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    state_space(modifiers);
    let (levels, operands): (&[&str], _) = match modifiers.base {
        "prefetch" => {
            let levels = &[
                "L1",
                "L2",
                "L2::evict_last",
                "L2::evict_normal",
                "tensormap",
            ];
            (levels, 1)
        }
        "prefetchu" => (&["L1"], 1),
        "applypriority" => (&["L2::evict_normal"], 2),
        _ => (&["L2"], 2),
    };
    if modifiers
        .pick(|part| levels.contains(&part).then_some(()))
        .is_none()
    {
        return Err(lowering.unsupported(modifiers, "unknown level"));
    }
    lowering.expect_operands(instruction, operands)?;
    let Operand::Address(address) = &instruction.operands[0] else {
        return Err(lowering.error("expected an address in brackets"));
    };
    lowering.address(address)?;
    nothing(lowering);
    Ok(())
}

/// Takes out the state space.
fn state_space(modifiers: &mut Modifiers<'_>) -> u8 {
    modifiers
        .pick(|part| {
            Some(match part {
                "global" => space::GLOBAL,
                "shared" | "shared::cta" => space::SHARED,
                "shared::cluster" => space::CLUSTER,
                "local" => space::LOCAL,
                "param" | "param::entry" | "param::func" => space::PARAM,
                "const" => space::CONST,
                _ => return None,
            })
        })
        .unwrap_or(space::GENERIC)
}

fn load_store(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let writes = modifiers.base == "st";
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    if !matches!(
        ty,
        B8 | B16 | B32 | B64 | U8 | U16 | U32 | U64 | S8 | S16 | S32 | S64 | F32 | F64
    ) {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    }
    let state_space = state_space(modifiers);
    if writes && state_space == space::CONST {
        return Err(lowering.unsupported(modifiers, "constants are not written"));
    }
    modifiers.take("unified");
    lowering.hint = modifiers.cache_hints();
    let count = modifiers.pick(|part| {
        Some(match part {
            "v2" => 2,
            "v4" => 4,
            "v8" => 8,
            _ => return None,
        })
    });
    if count.is_some_and(|count| count * ty.bytes() as usize > 32) {
        return Err(lowering.unsupported(modifiers, "vectors have at most 256 bits"));
    }
    let order = modifiers.order().unwrap_or_default();
    let wrong = if writes {
        Order::Acquire
    } else {
        Order::Release
    };
    if order == wrong || order == Order::AcquireRelease {
        return Err(lowering.unsupported(modifiers, "not with this order"));
    }
    let scope = match (modifiers.scope(), order) {
        (Some(_), Order::Weak | Order::Volatile) => {
            return Err(lowering.unsupported(modifiers, "a scope without an order"));
        }
        (Some(scope), _) => scope,
        (None, Order::Volatile) => Scope::System,
        (None, _) => Scope::Gpu,
    };
    modifiers.take("mmio");
    let (value, place) = if writes { (1, 0) } else { (0, 1) };
    // A cache policy may follow as a last operand.
    if instruction.operands.len() < 2 || instruction.operands.len() > 3 {
        return Err(lowering.error(format!("{} takes 2 operands", modifiers.opcode)));
    }
    let Operand::Address(address) = &instruction.operands[place] else {
        return Err(lowering.error("expected an address in brackets"));
    };
    let values: Vec<&Operand> = match &instruction.operands[value] {
        Operand::Vector(items) => items.iter().collect(),
        single => vec![single],
    };
    if values.len() != count.unwrap_or(1) {
        return Err(lowering.error(format!(
            "{} does not have {} registers",
            modifiers.opcode,
            values.len()
        )));
    }
    if state_space == space::PARAM
        && let Some(words) = address
            .base
            .as_deref()
            .and_then(|base| parameter_words(lowering, base))
    {
        return parameter(lowering, ty, &values, words, address, writes);
    }
    let registers: Result<Vec<Option<(Slot, bool)>>> = values
        .iter()
        .map(|value| register(lowering, value, ty, writes))
        .collect();
    let (base, offset, wide_address) = lowering.address(address)?;
    let used_bytes = if writes {
        u32::MAX
    } else {
        std::mem::replace(&mut lowering.used_bytes, u32::MAX)
    };
    let access = Access {
        ty,
        registers: registers?,
        offset,
        wide_address,
        order,
        scope,
        used_bytes,
        collective: false,
        asynchronous: false,
    };
    let run = if writes {
        store(state_space, ty.bytes())
    } else {
        load(state_space, ty.bytes())
    };
    let Some(run) = run else {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    };
    let mut inst = lowering.inst(run);
    inst.a = base;
    inst.ext = lowering.extra(Extra::Access(access));
    lowering.emit(Class::Memory, inst);
    Ok(())
}

/// The register of one element: a source or a destination, which may be wider than the element.
fn register(
    lowering: &mut Lowering<'_>,
    operand: &Operand,
    ty: ScalarType,
    writes: bool,
) -> Result<Option<(Slot, bool)>> {
    match operand {
        Operand::Sink => Ok(None),
        Operand::Name(name) => match lowering.register(name) {
            Some(Place::Narrow(slot)) if ty.bytes() < 8 => {
                if !writes {
                    lowering.writes(slot);
                }
                Ok(Some((slot, false)))
            }
            Some(Place::Wide(slot)) => Ok(Some((slot, true))),
            Some(_) => Err(lowering.error(format!("{name} does not hold a value of this type"))),
            None if writes => {
                let slot = lowering.source(operand, ty)?;
                Ok(Some((slot, ty.bytes() == 8)))
            }
            None => Err(lowering.error(format!("{name} is no register"))),
        },
        _ if writes => Ok(Some((lowering.source(operand, ty)?, ty.bytes() == 8))),
        _ => Err(lowering.error("expected a register to write to")),
    }
}

/// Accesses to `.param`s of device functions and calls, which are rows of 32-bit words.
fn parameter(
    lowering: &mut Lowering<'_>,
    ty: ScalarType,
    values: &[&Operand],
    (first, count): (Slot, u32),
    address: &Address,
    writes: bool,
) -> Result<()> {
    let bytes = ty.bytes();
    for (index, value) in values.iter().enumerate() {
        let at = address.offset + i64::from(bytes) * index as i64;
        if at < 0 || at % i64::from(bytes) != 0 || at + i64::from(bytes) > 4 * i64::from(count) {
            return Err(lowering.error(format!(
                "offset {at} is not inside the parameter, or not aligned"
            )));
        }
        let Some((slot, wide)) = register(lowering, value, ty, writes)? else {
            continue;
        };
        let word = first.offset(at as u32 / 4);
        let shift = 8 * (at as u32 % 4);
        let mut inst = lowering.inst(match (writes, bytes, wide) {
            (true, 8, _) => ops::param::store_wide(),
            (false, 8, _) => ops::param::load_wide(),
            (true, 4, false) | (false, 4, false) => unary::<u32, u32, _>(|a| a),
            (true, _, _) => ops::param::store_part(),
            (false, 4, true) => ops::param::load_extended(),
            (false, _, _) => ops::param::load_part(),
        });
        (inst.d, inst.a) = if writes { (word, slot) } else { (slot, word) };
        inst.imm = shift;
        // Size, whether the value is signed, whether its register has 64 bits.
        inst.flags = bytes as u8 | u8::from(ty.is_signed()) << 4 | u8::from(wide) << 5;
        lowering.emit(Class::Move, inst);
    }
    Ok(())
}

fn atomics(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let returns = modifiers.base == "atom";
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let half = matches!(ty, F16 | F16x2 | BF16 | BF16x2);
    if half != modifiers.take("noftz") {
        return Err(lowering.unsupported(modifiers, ".noftz is for f16 and bf16, which need it"));
    }
    let state_space = state_space(modifiers);
    if modifiers.take("L2::cache_hint") {
        lowering.hint = CacheHint::Policy;
    }
    let order = modifiers.order().unwrap_or(Order::Relaxed);
    let scope = modifiers.scope().unwrap_or_default();
    let Some(operation) = modifiers.pick(Operation::from_name) else {
        return Err(lowering.unsupported(modifiers, "unknown operation"));
    };
    let count = modifiers.pick(|part| {
        Some(match part {
            "v2" => 2,
            "v4" => 4,
            "v8" => 8,
            _ => return None,
        })
    });
    let allowed = match count {
        None => operation.allows(ty),
        Some(count) => operation.allows_vector(ty) && count * ty.bytes() <= 16,
    };
    let Some(run) = atomic(state_space).filter(|_| allowed) else {
        return Err(lowering.unsupported(modifiers, "not for this type or state space"));
    };
    let sources = if operation == Operation::CompareAndSwap {
        2
    } else {
        1
    };
    let first = usize::from(returns);
    if instruction.operands.len() < first + 1 + sources {
        return Err(lowering.error(format!("{} has too few operands", modifiers.opcode)));
    }
    let Operand::Address(address) = &instruction.operands[first] else {
        return Err(lowering.error("expected an address in brackets"));
    };
    let (base, offset, wide_address) = lowering.address(address)?;
    let wide = ty.bytes() == 8;
    let access = |register, offset| Access {
        ty,
        registers: vec![register],
        offset,
        wide_address,
        order,
        scope,
        used_bytes: u32::MAX,
        collective: false,
        asynchronous: false,
    };
    let result = if returns {
        &instruction.operands[0]
    } else {
        &Operand::Sink
    };
    if let Some(count) = count {
        // Each element is an atomic of its own. Results go to rows of their own first, as they may be sources.
        let count = count as usize;
        let sources = elements(lowering, &instruction.operands[first + 1], count)?;
        let results = match result {
            Operand::Sink => vec![&Operand::Sink; count],
            result => elements(lowering, result, count)?,
        };
        let mut moves = Vec::new();
        for (index, (source, result)) in sources.into_iter().zip(results).enumerate() {
            let mut inst = lowering.inst(run);
            (inst.a, inst.b) = (base, lowering.source32(source)?);
            inst.flags = operation.index();
            let register = (*result != Operand::Sink).then(|| lowering.rows.narrow(1));
            if let Some(row) = register {
                moves.push((lowering.destination32(result)?, row));
            }
            let at = offset.wrapping_add(i64::from(ty.bytes()) * index as i64);
            let access = access(register.map(|row| (row, false)), at);
            inst.ext = lowering.extra(Extra::Access(access));
            lowering.emit(Class::Atomic, inst);
        }
        for (d, row) in moves {
            super::moves::copy32(lowering, d, row);
        }
        return Ok(());
    }
    let mut inst = lowering.inst(run);
    inst.b = lowering.source(&instruction.operands[first + 1], ty)?;
    if sources == 2 {
        inst.c = lowering.source(&instruction.operands[first + 2], ty)?;
    }
    let register = match result {
        Operand::Sink => None,
        operand => Some((lowering.destination(operand, ty)?, wide)),
    };
    inst.a = base;
    inst.flags = operation.index();
    inst.ext = lowering.extra(Extra::Access(access(register, offset)));
    lowering.emit(Class::Atomic, inst);
    Ok(())
}

/// The elements of a vector operand that must have `count`.
fn elements<'o>(
    lowering: &Lowering<'_>,
    operand: &'o Operand,
    count: usize,
) -> Result<Vec<&'o Operand>> {
    match operand {
        Operand::Vector(items) if items.len() == count => Ok(items.iter().collect()),
        _ => Err(lowering.error(format!("expected a vector of {count} registers"))),
    }
}

/// `membar`, `fence`, `fence.proxy`, `fence.mbarrier_init`.
fn fence(
    lowering: &mut Lowering<'_>,
    _: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let mut inst = lowering.inst(handler::<ops::fence::Fence>());
    if modifiers.take("proxy") {
        let kind = modifiers.first().unwrap_or_default();
        inst.flags = match kind {
            "async" | "async::generic" => ops::fence::flag::PROXY_ASYNC,
            "alias" | "tensormap" | "tensormap::generic" => ops::fence::flag::PROXY_OTHER,
            _ => return Err(lowering.unsupported(modifiers, "unknown proxy")),
        };
        modifiers.pick(|part| (part == "global" || part.starts_with("shared")).then_some(()));
        modifiers.order();
        modifiers.scope();
        modifiers.pick(|part| part.starts_with("sync_restrict").then_some(()));
    } else if modifiers.take("mbarrier_init") {
        modifiers.order();
        modifiers.scope();
        inst.flags = ops::fence::flag::MBARRIER_INIT;
    } else {
        modifiers.take("sc");
        modifiers.order();
        modifiers.pick(|part| part.starts_with("sync_restrict").then_some(()));
        let scope = modifiers.scope();
        let Some(scope) = scope else {
            return Err(lowering.unsupported(modifiers, "it has no scope"));
        };
        inst.imm = scope as u32;
    }
    lowering.emit(Class::Sync, inst);
    Ok(())
}
