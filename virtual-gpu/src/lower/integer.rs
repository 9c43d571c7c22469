//! Integer arithmetic, logic and comparison.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use super::moves::four32;
use crate::exec::{Class, Handler, Predicate, binary, handler, ops, ternary, unary};
use crate::num::ScalarType::{self, *};
use crate::ptx::{Instruction, Operand};

/// A handler of one function for every integer type: the arguments are of the type itself, the result is cast back.
macro_rules! by_type {
    ($ty:expr, |$a:ident| $body:expr) => {
        match $ty {
            U16 | B16 => Some(unary::<u32, u32, _>(|$a| {
                let $a = $a as u16;
                ($body) as u16 as u32
            })),
            S16 => Some(unary::<u32, u32, _>(|$a| {
                let $a = $a as i16;
                ($body) as u16 as u32
            })),
            U32 | B32 => Some(unary::<u32, u32, _>(|$a| ($body) as u32)),
            S32 => Some(unary::<u32, u32, _>(|$a| {
                let $a = $a as i32;
                ($body) as u32
            })),
            U64 | B64 => Some(unary::<u64, u64, _>(|$a| ($body) as u64)),
            S64 => Some(unary::<u64, u64, _>(|$a| {
                let $a = $a as i64;
                ($body) as u64
            })),
            _ => None,
        }
    };
    ($ty:expr, |$a:ident, $b:ident| $body:expr) => {
        match $ty {
            U16 | B16 => Some(binary::<u32, u32, u32, _>(|$a, $b| {
                let ($a, $b) = ($a as u16, $b as u16);
                ($body) as u16 as u32
            })),
            S16 => Some(binary::<u32, u32, u32, _>(|$a, $b| {
                let ($a, $b) = ($a as i16, $b as i16);
                ($body) as u16 as u32
            })),
            U32 | B32 => Some(binary::<u32, u32, u32, _>(|$a, $b| ($body) as u32)),
            S32 => Some(binary::<u32, u32, u32, _>(|$a, $b| {
                let ($a, $b) = ($a as i32, $b as i32);
                ($body) as u32
            })),
            U64 | B64 => Some(binary::<u64, u64, u64, _>(|$a, $b| ($body) as u64)),
            S64 => Some(binary::<u64, u64, u64, _>(|$a, $b| {
                let ($a, $b) = ($a as i64, $b as i64);
                ($body) as u64
            })),
            _ => None,
        }
    };
    ($ty:expr, |$a:ident, $b:ident, $c:ident| $body:expr) => {
        match $ty {
            U16 | B16 => Some(ternary::<u32, u32, u32, u32, _>(|$a, $b, $c| {
                let ($a, $b, $c) = ($a as u16, $b as u16, $c as u16);
                ($body) as u16 as u32
            })),
            S16 => Some(ternary::<u32, u32, u32, u32, _>(|$a, $b, $c| {
                let ($a, $b, $c) = ($a as i16, $b as i16, $c as i16);
                ($body) as u16 as u32
            })),
            U32 | B32 => Some(ternary::<u32, u32, u32, u32, _>(|$a, $b, $c| {
                ($body) as u32
            })),
            S32 => Some(ternary::<u32, u32, u32, u32, _>(|$a, $b, $c| {
                let ($a, $b, $c) = ($a as i32, $b as i32, $c as i32);
                ($body) as u32
            })),
            U64 | B64 => Some(ternary::<u64, u64, u64, u64, _>(|$a, $b, $c| {
                ($body) as u64
            })),
            S64 => Some(ternary::<u64, u64, u64, u64, _>(|$a, $b, $c| {
                let ($a, $b, $c) = ($a as i64, $b as i64, $c as i64);
                ($body) as u64
            })),
            _ => None,
        }
    };
}

/// A comparison for every integer type.
macro_rules! compare_by_type {
    ($ty:expr, |$a:ident, $b:ident| $body:expr) => {
        match $ty {
            U16 | B16 => Some(binary::<bool, u32, u32, _>(|$a, $b| {
                let ($a, $b) = ($a as u16, $b as u16);
                $body
            })),
            S16 => Some(binary::<bool, u32, u32, _>(|$a, $b| {
                let ($a, $b) = ($a as i16, $b as i16);
                $body
            })),
            U32 | B32 => Some(binary::<bool, u32, u32, _>(|$a, $b| $body)),
            S32 => Some(binary::<bool, u32, u32, _>(|$a, $b| {
                let ($a, $b) = ($a as i32, $b as i32);
                $body
            })),
            U64 | B64 => Some(binary::<bool, u64, u64, _>(|$a, $b| $body)),
            S64 => Some(binary::<bool, u64, u64, _>(|$a, $b| {
                let ($a, $b) = ($a as i64, $b as i64);
                $body
            })),
            _ => None,
        }
    };
}

/// Every instruction on integers, and `setp` and `set` on them.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    match modifiers.base {
        "setp" => super::compare::setp(lowering, instruction, modifiers),
        "set" => super::compare::set(lowering, instruction, modifiers),
        "add" | "sub" | "addc" | "subc" => sum(lowering, instruction, modifiers),
        "mul" | "mad" | "mul24" | "mad24" | "madc" => {
            super::product::lower(lowering, instruction, modifiers)
        }
        "lop3" => lop3(lowering, instruction, modifiers),
        "shl" | "shr" => shift(lowering, instruction, modifiers),
        "shf" => funnel(lowering, instruction, modifiers),
        "and" | "or" | "xor" | "not" if modifiers.rest().last() == Some(&"pred") => {
            predicate(lowering, instruction, modifiers)
        }
        "bfe" | "bfi" | "bfind" | "fns" | "bmsk" | "szext" | "dp4a" | "dp2a" => {
            super::bits::lower(lowering, instruction, modifiers)
        }
        _ => plain(lowering, instruction, modifiers),
    }
}

/// Handler for a comparison of integers.
pub fn comparison(name: &str, ty: ScalarType) -> Option<Handler> {
    match (name, ty) {
        ("eq", _) => compare_by_type!(ty, |a, b| a == b),
        ("ne", _) => compare_by_type!(ty, |a, b| a != b),
        (_, B16 | B32 | B64) => None,
        ("lt", _) | ("lo", U16 | U32 | U64) => compare_by_type!(ty, |a, b| a < b),
        ("le", _) | ("ls", U16 | U32 | U64) => compare_by_type!(ty, |a, b| a <= b),
        ("gt", _) | ("hi", U16 | U32 | U64) => compare_by_type!(ty, |a, b| a > b),
        ("ge", _) | ("hs", U16 | U32 | U64) => compare_by_type!(ty, |a, b| a >= b),
        _ => None,
    }
}

/// Instructions whose sources and result have one type.
fn plain(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let relu = matches!(modifiers.base, "min" | "max") && modifiers.take("relu");
    let allowed = match modifiers.base {
        "and" | "or" | "xor" | "not" | "cnot" => matches!(ty, B16 | B32 | B64),
        "brev" | "clz" | "popc" => matches!(ty, B32 | B64),
        "abs" | "neg" => matches!(ty, S16 | S32 | S64),
        _ => matches!(ty, U16 | U32 | U64 | S16 | S32 | S64),
    };
    if !allowed {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    }
    let (run, sources): (Option<Handler>, usize) = match modifiers.base {
        // x / 0 has no defined result; hardware gives all ones, and x % 0 gives x.
        "div" => (
            by_type!(ty, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) }),
            2,
        ),
        "rem" => (
            by_type!(ty, |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
            2,
        ),
        "min" if relu => (
            (ty == S32)
                .then(|| binary::<u32, u32, u32, _>(|a, b| (a as i32).min(b as i32).max(0) as u32)),
            2,
        ),
        "max" if relu => (
            (ty == S32)
                .then(|| binary::<u32, u32, u32, _>(|a, b| (a as i32).max(b as i32).max(0) as u32)),
            2,
        ),
        "min" => (by_type!(ty, |a, b| a.min(b)), 2),
        "max" => (by_type!(ty, |a, b| a.max(b)), 2),
        "sad" => (
            by_type!(ty, |a, b, c| c
                .wrapping_add(a.max(b).wrapping_sub(a.min(b)))),
            3,
        ),
        "abs" => match ty {
            S16 => (
                Some(unary::<u32, u32, _>(|a| {
                    u32::from((a as i16).wrapping_abs() as u16)
                })),
                1,
            ),
            S32 => (
                Some(unary::<u32, u32, _>(|a| (a as i32).wrapping_abs() as u32)),
                1,
            ),
            S64 => (
                Some(unary::<u64, u64, _>(|a| (a as i64).wrapping_abs() as u64)),
                1,
            ),
            _ => (None, 1),
        },
        "neg" => (by_type!(ty, |a| a.wrapping_neg()), 1),
        "and" => (by_type!(ty, |a, b| a & b), 2),
        "or" => (by_type!(ty, |a, b| a | b), 2),
        "xor" => (by_type!(ty, |a, b| a ^ b), 2),
        "not" => (by_type!(ty, |a| !a), 1),
        "cnot" => (by_type!(ty, |a| u8::from(a == 0)), 1),
        "brev" => (by_type!(ty, |a| a.reverse_bits()), 1),
        "clz" => (
            count(
                ty,
                unary::<u32, u32, _>(|a| a.leading_zeros()),
                unary::<u32, u64, _>(|a: u64| a.leading_zeros()),
            ),
            1,
        ),
        "popc" => (
            count(
                ty,
                unary::<u32, u32, _>(|a| a.count_ones()),
                unary::<u32, u64, _>(|a: u64| a.count_ones()),
            ),
            1,
        ),
        _ => (None, 0),
    };
    let Some(run) = run else {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    };
    lowering.expect_operands(instruction, 1 + sources)?;
    let mut inst = lowering.inst(run);
    let narrow_result = matches!(modifiers.base, "clz" | "popc");
    inst.d = lowering.destination(
        &instruction.operands[0],
        if narrow_result { U32 } else { ty },
    )?;
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    if sources > 1 {
        inst.b = lowering.source(&instruction.operands[2], ty)?;
    }
    if sources > 2 {
        inst.c = lowering.source(&instruction.operands[3], ty)?;
    }
    lowering.emit(Class::Integer, inst);
    Ok(())
}

fn count(ty: ScalarType, narrow: Handler, wide: Handler) -> Option<Handler> {
    match ty {
        B32 => Some(narrow),
        B64 => Some(wide),
        _ => None,
    }
}

/// `add`, `sub` and their carrying forms.
fn sum(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let subtract = modifiers.base.starts_with("sub");
    let (sets, uses) = (modifiers.take("cc"), modifiers.base.ends_with('c'));
    let saturate = modifiers.take("sat");
    if matches!(ty, B16 | B32 | B64) || (saturate && (sets || uses)) {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    }
    if sets || uses {
        return super::product::carry_sum(lowering, instruction, ty, subtract, sets, uses);
    }
    let run = match (saturate, subtract, ty) {
        (true, false, S32) => Some(binary::<u32, u32, u32, _>(|a, b| {
            (a as i32).saturating_add(b as i32) as u32
        })),
        (true, true, S32) => Some(binary::<u32, u32, u32, _>(|a, b| {
            (a as i32).saturating_sub(b as i32) as u32
        })),
        (true, ..) => None,
        (_, false, _) => by_type!(ty, |a, b| a.wrapping_add(b)),
        (_, true, _) => by_type!(ty, |a, b| a.wrapping_sub(b)),
    };
    let Some(run) = run else {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    };
    lowering.expect_operands(instruction, 3)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination(&instruction.operands[0], ty)?;
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    inst.b = lowering.source(&instruction.operands[2], ty)?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

fn shift(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    // Amounts beyond the width count as the width.
    let run = match (modifiers.base, ty) {
        ("shl", B16) => binary::<u32, u32, u32, _>(|a, b| if b > 15 { 0 } else { a << b & 0xffff }),
        ("shl", B32) => binary::<u32, u32, u32, _>(|a, b| if b > 31 { 0 } else { a << (b & 31) }),
        ("shl", B64) => binary::<u64, u64, u32, _>(|a, b| if b > 63 { 0 } else { a << (b & 63) }),
        ("shr", B16 | U16) => {
            binary::<u32, u32, u32, _>(|a, b| if b > 15 { 0 } else { (a & 0xffff) >> b })
        }
        ("shr", B32 | U32) => {
            binary::<u32, u32, u32, _>(|a, b| if b > 31 { 0 } else { a >> (b & 31) })
        }
        ("shr", B64 | U64) => {
            binary::<u64, u64, u32, _>(|a, b| if b > 63 { 0 } else { a >> (b & 63) })
        }
        ("shr", S16) => {
            binary::<u32, u32, u32, _>(|a, b| u32::from((a as i16 >> b.min(15)) as u16))
        }
        ("shr", S32) => binary::<u32, u32, u32, _>(|a, b| (a as i32 >> b.min(31)) as u32),
        ("shr", S64) => binary::<u64, u64, u32, _>(|a, b| (a as i64 >> b.min(63)) as u64),
        _ => return Err(lowering.unsupported(modifiers, "not for this type")),
    };
    lowering.expect_operands(instruction, 3)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination(&instruction.operands[0], ty)?;
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

/// `shf`: the 64 bits `b:a`, shifted.
fn funnel(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let left = modifiers.take("l");
    if !left && !modifiers.take("r") {
        return Err(lowering.unsupported(modifiers, "it shifts neither left nor right"));
    }
    let wrap = modifiers.take("wrap");
    if !wrap && !modifiers.take("clamp") {
        return Err(lowering.unsupported(modifiers, "it neither wraps nor clamps"));
    }
    if !modifiers.take("b32") {
        return Err(lowering.unsupported(modifiers, "only .b32 is"));
    }
    let run = match (left, wrap) {
        (true, true) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| (join(a, b) << (c & 31) >> 32) as u32)
        }
        (true, false) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| (join(a, b) << c.min(32) >> 32) as u32)
        }
        (false, true) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| (join(a, b) >> (c & 31)) as u32)
        }
        (false, false) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| (join(a, b) >> c.min(32)) as u32)
        }
    };
    let mut inst = lowering.inst(run);
    four32(lowering, &mut inst, instruction)?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

#[inline(always)]
fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// `lop3.b32`: any function of three bits, by its truth table. `lop3.and.b32 d|p, a, b, c, table, q` and `lop3.or.b32`
/// also give whether the result is not zero, combined with a predicate.
fn lop3(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if !modifiers.take("b32") {
        return Err(lowering.unsupported(modifiers, "only lop3.b32 is"));
    }
    let combine = match (modifiers.take("and"), modifiers.take("or")) {
        (false, false) => None,
        (true, false) => Some(binary::<bool, bool, bool, _>(|a, b| a & b)),
        (false, true) => Some(binary::<bool, bool, bool, _>(|a, b| a | b)),
        (true, true) => return Err(lowering.unsupported(modifiers, "two combinations")),
    };
    lowering.expect_operands(instruction, if combine.is_some() { 6 } else { 5 })?;
    let Operand::Integer(table @ 0..=255) = instruction.operands[4] else {
        return Err(lowering.error("the truth table of lop3 must be a constant from 0 to 255"));
    };
    let run = match table {
        0xc0 => ternary::<u32, u32, u32, u32, _>(|a, b, _| a & b),
        0xea => ternary::<u32, u32, u32, u32, _>(|a, b, c| a & b | c),
        0x6a => ternary::<u32, u32, u32, u32, _>(|a, b, c| a & b ^ c),
        0x96 => ternary::<u32, u32, u32, u32, _>(|a, b, c| a ^ b ^ c),
        _ => handler::<ops::logic::Lop3>(),
    };
    let mut inst = lowering.inst(run);
    let (result, predicate) = match (&instruction.operands[0], combine.is_some()) {
        (Operand::Pair(d, p), true) => (d.as_ref(), Some(p.as_ref())),
        (_, true) => return Err(lowering.error("lop3 with a combination writes d|p")),
        (d, false) => (d, None),
    };
    inst.d = lowering.destination32(result)?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    inst.c = lowering.source32(&instruction.operands[3])?;
    inst.imm = table as u32;
    let d = inst.d;
    lowering.emit(Class::Integer, inst);
    if let (Some(combine), Some(predicate)) = (combine, predicate) {
        let with = positive(lowering, &instruction.operands[5])?;
        let mut inst = lowering.inst(unary::<bool, u32, _>(|a| a != 0));
        inst.a = d;
        inst.p = super::compare::fresh(lowering);
        let nonzero = inst.p;
        lowering.emit(Class::Integer, inst);
        let mut inst = lowering.inst(combine);
        inst.p = lowering.destination_predicate(predicate)?;
        (inst.q, inst.r) = (nonzero, with);
        lowering.emit(Class::Integer, inst);
    }
    Ok(())
}

/// Logic on predicates.
fn predicate(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    modifiers.take("pred");
    let (run, sources) = match modifiers.base {
        "and" => (binary::<bool, bool, bool, _>(|a, b| a & b), 2),
        "or" => (binary::<bool, bool, bool, _>(|a, b| a | b), 2),
        "xor" => (binary::<bool, bool, bool, _>(|a, b| a ^ b), 2),
        _ => (unary::<bool, bool, _>(|a: bool| !a), 1),
    };
    lowering.expect_operands(instruction, 1 + sources)?;
    let mut inst = lowering.inst(run);
    inst.p = lowering.destination_predicate(&instruction.operands[0])?;
    inst.q = positive(lowering, &instruction.operands[1])?;
    if sources == 2 {
        inst.r = positive(lowering, &instruction.operands[2])?;
    }
    lowering.emit(Class::Integer, inst);
    Ok(())
}

/// A source predicate; a negated one is computed first.
pub fn positive(lowering: &mut Lowering<'_>, operand: &Operand) -> Result<Predicate> {
    let (source, negated) = lowering.source_predicate(operand)?;
    if !negated {
        return Ok(source);
    }
    let mut inst = lowering.inst(unary::<bool, bool, _>(|a: bool| !a));
    inst.q = source;
    inst.p = super::compare::fresh(lowering);
    let p = inst.p;
    lowering.emit(Class::Integer, inst);
    Ok(p)
}
