//! Bit fields and small dot products.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use super::moves::four32;
use crate::exec::{Class, Handler, Inst, binary, handler, ops, ternary, unary};
use crate::num::ScalarType::*;
use crate::ptx::Instruction;

/// `bfe`, `bfi`, `bfind`, `fns`, `bmsk`, `szext`, `dp4a`, `dp2a`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    match modifiers.base {
        "bfe" => extract(lowering, instruction, modifiers),
        "bfi" => insert(lowering, instruction, modifiers),
        "bfind" => find(lowering, instruction, modifiers),
        "dp4a" | "dp2a" => dot(lowering, instruction, modifiers),
        "fns" => {
            take(lowering, modifiers, "b32")?;
            let inst = lowering.inst(ternary::<u32, u32, u32, u32, _>(ops::logic::find_nth_set));
            three_sources(lowering, inst, instruction)
        }
        "bmsk" => {
            let run = if modifiers.take("wrap") {
                binary::<u32, u32, u32, _>(|a, b| mask(a & 31, b & 31))
            } else if modifiers.take("clamp") {
                binary::<u32, u32, u32, _>(|a, b| mask(a.min(32), b.min(32)))
            } else {
                return Err(lowering.unsupported(modifiers, "it neither wraps nor clamps"));
            };
            take(lowering, modifiers, "b32")?;
            two_sources(lowering, run, instruction)
        }
        _ => {
            let wrap = modifiers.take("wrap");
            if !wrap && !modifiers.take("clamp") {
                return Err(lowering.unsupported(modifiers, "it neither wraps nor clamps"));
            }
            let run = match (modifiers.last_type(), wrap) {
                (Some(U32), true) => binary::<u32, u32, u32, _>(|a, b| a & mask(0, b & 31)),
                (Some(U32), false) => binary::<u32, u32, u32, _>(|a, b| a & mask(0, b.min(32))),
                (Some(S32), true) => binary::<u32, u32, u32, _>(|a, b| sign_extend(a, b & 31)),
                (Some(S32), false) => binary::<u32, u32, u32, _>(|a, b| sign_extend(a, b.min(32))),
                _ => return Err(lowering.unsupported(modifiers, "not for this type")),
            };
            two_sources(lowering, run, instruction)
        }
    }
}

fn take(lowering: &Lowering<'_>, modifiers: &mut Modifiers<'_>, name: &str) -> Result<()> {
    if modifiers.take(name) {
        Ok(())
    } else {
        Err(lowering.unsupported(modifiers, &format!("only .{name} is")))
    }
}

/// `bits` ones from bit `from` on.
#[inline(always)]
fn mask(from: u32, bits: u32) -> u32 {
    ((((1u64 << bits) - 1) << from) & 0xffff_ffff) as u32
}

#[inline(always)]
fn sign_extend(a: u32, bits: u32) -> u32 {
    if bits == 0 {
        0
    } else {
        ((a << (32 - bits)) as i32 >> (32 - bits)) as u32
    }
}

fn two_sources(lowering: &mut Lowering<'_>, run: Handler, instruction: &Instruction) -> Result<()> {
    lowering.expect_operands(instruction, 3)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

fn three_sources(
    lowering: &mut Lowering<'_>,
    mut inst: Inst,
    instruction: &Instruction,
) -> Result<()> {
    four32(lowering, &mut inst, instruction)?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

fn extract(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    use ops::logic::{extract_signed, extract_unsigned};
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let run = match ty {
        U32 => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
            extract_unsigned(u64::from(a), b, c, 32) as u32
        }),
        S32 => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
            extract_signed(u64::from(a), b, c, 32) as u32
        }),
        U64 => ternary::<u64, u64, u32, u32, _>(|a, b, c| extract_unsigned(a, b, c, 64)),
        S64 => ternary::<u64, u64, u32, u32, _>(|a, b, c| extract_signed(a, b, c, 64)),
        _ => return Err(lowering.unsupported(modifiers, "not for this type")),
    };
    lowering.expect_operands(instruction, 4)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination(&instruction.operands[0], ty)?;
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    inst.c = lowering.source32(&instruction.operands[3])?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

/// `bfi f, a, b, start, length`.
fn insert(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let ty = match modifiers.last_type() {
        Some(ty @ (B32 | B64)) => ty,
        _ => return Err(lowering.unsupported(modifiers, "not for this type")),
    };
    lowering.expect_operands(instruction, 5)?;
    let run = if ty == B32 {
        handler::<ops::logic::Insert<32>>()
    } else {
        handler::<ops::logic::Insert<64>>()
    };
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination(&instruction.operands[0], ty)?;
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    inst.b = lowering.source(&instruction.operands[2], ty)?;
    inst.c = lowering.source32(&instruction.operands[3])?;
    inst.imm = lowering.source32(&instruction.operands[4])?.to_raw();
    lowering.emit(Class::Integer, inst);
    Ok(())
}

fn find(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let amount = modifiers.take("shiftamt");
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    // The position of the highest bit that differs from the sign, or how far to shift it to the top.
    let run = match (ty, amount) {
        (U32, false) => unary::<u32, u32, _>(|a| 31u32.wrapping_sub(a.leading_zeros())),
        (U32, true) => unary::<u32, u32, _>(|a| if a == 0 { u32::MAX } else { a.leading_zeros() }),
        (S32, false) => unary::<u32, u32, _>(|a| {
            31u32.wrapping_sub((a ^ (a as i32 >> 31) as u32).leading_zeros())
        }),
        (S32, true) => unary::<u32, u32, _>(|a| {
            let magnitude = a ^ (a as i32 >> 31) as u32;
            if magnitude == 0 {
                u32::MAX
            } else {
                magnitude.leading_zeros()
            }
        }),
        (U64, false) => unary::<u32, u64, _>(|a: u64| 63u32.wrapping_sub(a.leading_zeros())),
        (U64, true) => {
            unary::<u32, u64, _>(|a: u64| if a == 0 { u32::MAX } else { a.leading_zeros() })
        }
        (S64, false) => unary::<u32, u64, _>(|a: u64| {
            63u32.wrapping_sub((a ^ (a as i64 >> 63) as u64).leading_zeros())
        }),
        (S64, true) => unary::<u32, u64, _>(|a: u64| {
            let magnitude = a ^ (a as i64 >> 63) as u64;
            if magnitude == 0 {
                u32::MAX
            } else {
                magnitude.leading_zeros()
            }
        }),
        _ => return Err(lowering.unsupported(modifiers, "not for this type")),
    };
    lowering.expect_operands(instruction, 2)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source(&instruction.operands[1], ty)?;
    lowering.emit(Class::Integer, inst);
    Ok(())
}

/// `dp4a` and `dp2a`: dot products of bytes, and of 16-bit values with bytes.
fn dot(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    use ops::logic::{dot2, dot4};
    let high = modifiers.take("hi");
    let low = modifiers.take("lo");
    let types = modifiers.types();
    let four = modifiers.base == "dp4a";
    if four == (high || low) {
        return Err(lowering.unsupported(modifiers, "dp2a says .lo or .hi, dp4a neither"));
    }
    macro_rules! signs {
        ($a:literal, $b:literal) => {
            match (four, high) {
                (true, _) => ternary::<u32, u32, u32, u32, _>(|a, b, c| dot4(a, b, c, $a, $b)),
                (_, false) => ternary::<u32, u32, u32, u32, _>(|a, b, c| dot2(a, b, c, $a, $b, 0)),
                (_, true) => ternary::<u32, u32, u32, u32, _>(|a, b, c| dot2(a, b, c, $a, $b, 2)),
            }
        };
    }
    let run = match types[..] {
        [S32, S32] => signs!(true, true),
        [S32, U32] => signs!(true, false),
        [U32, S32] => signs!(false, true),
        [U32, U32] => signs!(false, false),
        _ => return Err(lowering.unsupported(modifiers, "not for these types")),
    };
    let inst = lowering.inst(run);
    three_sources(lowering, inst, instruction)
}
