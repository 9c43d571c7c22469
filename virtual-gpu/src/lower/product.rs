//! Integer products, and sums that carry.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::{Class, Handler, Slot, binary, ternary, unary};
use crate::num::ScalarType::{self, *};
use crate::ptx::Instruction;

/// Which part of a product is wanted.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Low,
    High,
    Wide,
}

/// `mul`, `mad`, `mul24`, `mad24`, `madc`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let part = modifiers.pick(|part| {
        Some(match part {
            "lo" => Part::Low,
            "hi" => Part::High,
            "wide" => Part::Wide,
            _ => return None,
        })
    });
    let part =
        part.ok_or_else(|| lowering.unsupported(modifiers, "it says neither .lo, .hi nor .wide"))?;
    let (sets, uses) = (modifiers.take("cc"), modifiers.base == "madc");
    let saturate = modifiers.take("sat");
    let adds = modifiers.base.starts_with("mad");
    let short = modifiers.base.ends_with("24");
    let product = if short {
        product24(part, ty)
    } else {
        product(part, ty)
    };
    if (sets || uses) && (!adds || short || part == Part::Wide || ty.bytes() < 4) {
        return Err(lowering.unsupported(
            modifiers,
            "the carry is for mad.lo and mad.hi of 32 or 64 bits",
        ));
    }
    let Some(product) = product else {
        return Err(lowering.unsupported(modifiers, "not for this type"));
    };
    lowering.expect_operands(instruction, if adds { 4 } else { 3 })?;
    let result = if part == Part::Wide { widened(ty) } else { ty };
    let (a, b) = (
        lowering.source(&instruction.operands[1], ty)?,
        lowering.source(&instruction.operands[2], ty)?,
    );
    if saturate {
        if (part, ty, adds) != (Part::High, S32, true) || sets || uses {
            return Err(
                lowering.unsupported(modifiers, ".sat is for mad.hi.s32 and mad24.hi.s32 only")
            );
        }
        let mut inst = lowering.inst(if short {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| {
                let high = (signed24(a) * signed24(b) >> 16) as i32;
                high.saturating_add(c as i32) as u32
            })
        } else {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| {
                let high = (i64::from(a as i32) * i64::from(b as i32) >> 32) as i32;
                high.saturating_add(c as i32) as u32
            })
        });
        inst.d = lowering.destination32(&instruction.operands[0])?;
        (inst.a, inst.b, inst.c) = (a, b, lowering.source32(&instruction.operands[3])?);
        lowering.emit(Class::Integer, inst);
        return Ok(());
    }
    if !adds {
        let mut inst = lowering.inst(product);
        inst.d = lowering.destination(&instruction.operands[0], result)?;
        (inst.a, inst.b) = (a, b);
        lowering.emit(Class::Integer, inst);
        return Ok(());
    }
    let c = lowering.source(&instruction.operands[3], result)?;
    if !sets
        && !uses
        && let Some(run) = fused(part, ty)
    {
        let mut inst = lowering.inst(run);
        inst.d = lowering.destination(&instruction.operands[0], result)?;
        (inst.a, inst.b, inst.c) = (a, b, c);
        lowering.emit(Class::Integer, inst);
        return Ok(());
    }
    let rows = if result.bytes() == 8 { 2 } else { 1 };
    let mut inst = lowering.inst(product);
    (inst.d, inst.a, inst.b) = (lowering.rows.narrow(rows), a, b);
    let partial = inst.d;
    lowering.emit(Class::Integer, inst);
    let d = lowering.destination(&instruction.operands[0], result)?;
    carry(lowering, d, partial, c, result, false, sets, uses)
}

fn widened(ty: ScalarType) -> ScalarType {
    match ty {
        U16 => U32,
        S16 => S32,
        U32 => U64,
        _ => S64,
    }
}

fn product(part: Part, ty: ScalarType) -> Option<Handler> {
    Some(match (part, ty) {
        (Part::Low, U16 | S16) => binary::<u32, u32, u32, _>(|a, b| a.wrapping_mul(b) & 0xffff),
        (Part::Low, U32 | S32) => binary::<u32, u32, u32, _>(|a, b| a.wrapping_mul(b)),
        (Part::Low, U64 | S64) => binary::<u64, u64, u64, _>(|a, b| a.wrapping_mul(b)),
        (Part::High, U16) => binary::<u32, u32, u32, _>(|a, b| (a & 0xffff) * (b & 0xffff) >> 16),
        (Part::High, S16) => binary::<u32, u32, u32, _>(|a, b| {
            u32::from((i32::from(a as i16) * i32::from(b as i16) >> 16) as u16)
        }),
        (Part::High, U32) => {
            binary::<u32, u32, u32, _>(|a, b| (u64::from(a) * u64::from(b) >> 32) as u32)
        }
        (Part::High, S32) => binary::<u32, u32, u32, _>(|a, b| {
            (i64::from(a as i32) * i64::from(b as i32) >> 32) as u32
        }),
        (Part::High, U64) => {
            binary::<u64, u64, u64, _>(|a, b| (u128::from(a) * u128::from(b) >> 64) as u64)
        }
        (Part::High, S64) => binary::<u64, u64, u64, _>(|a, b| {
            (i128::from(a as i64) * i128::from(b as i64) >> 64) as u64
        }),
        (Part::Wide, U16) => binary::<u32, u32, u32, _>(|a, b| (a & 0xffff) * (b & 0xffff)),
        (Part::Wide, S16) => {
            binary::<u32, u32, u32, _>(|a, b| (i32::from(a as i16) * i32::from(b as i16)) as u32)
        }
        (Part::Wide, U32) => binary::<u64, u32, u32, _>(|a, b| u64::from(a) * u64::from(b)),
        (Part::Wide, S32) => {
            binary::<u64, u32, u32, _>(|a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64)
        }
        _ => return None,
    })
}

/// Products that are added to at once.
fn fused(part: Part, ty: ScalarType) -> Option<Handler> {
    Some(match (part, ty) {
        (Part::Low, U32 | S32) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| a.wrapping_mul(b).wrapping_add(c))
        }
        (Part::Low, U64 | S64) => {
            ternary::<u64, u64, u64, u64, _>(|a, b, c| a.wrapping_mul(b).wrapping_add(c))
        }
        (Part::Wide, U32) => ternary::<u64, u32, u32, u64, _>(|a, b, c| {
            (u64::from(a) * u64::from(b)).wrapping_add(c)
        }),
        (Part::Wide, S32) => ternary::<u64, u32, u32, u64, _>(|a, b, c| {
            ((i64::from(a as i32) * i64::from(b as i32)) as u64).wrapping_add(c)
        }),
        _ => return None,
    })
}

/// Products of 24-bit values: `.lo` is bits 0 to 31 of the 48, `.hi` bits 16 to 47.
fn product24(part: Part, ty: ScalarType) -> Option<Handler> {
    Some(match (part, ty) {
        (Part::Low, U32) => {
            binary::<u32, u32, u32, _>(|a, b| (unsigned24(a) * unsigned24(b)) as u32)
        }
        (Part::High, U32) => {
            binary::<u32, u32, u32, _>(|a, b| (unsigned24(a) * unsigned24(b) >> 16) as u32)
        }
        (Part::Low, S32) => binary::<u32, u32, u32, _>(|a, b| (signed24(a) * signed24(b)) as u32),
        (Part::High, S32) => {
            binary::<u32, u32, u32, _>(|a, b| (signed24(a) * signed24(b) >> 16) as u32)
        }
        _ => return None,
    })
}

#[inline(always)]
fn unsigned24(x: u32) -> u64 {
    u64::from(x & 0xff_ffff)
}

#[inline(always)]
fn signed24(x: u32) -> i64 {
    i64::from((x << 8) as i32 >> 8)
}

/// `add.cc`, `addc`, `sub.cc`, `subc`.
pub fn carry_sum(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    ty: ScalarType,
    subtract: bool,
    sets: bool,
    uses: bool,
) -> Result<()> {
    if !matches!(ty, U32 | S32 | U64 | S64) {
        return Err(lowering.error("carrying sums are of 32 or 64 bits"));
    }
    lowering.expect_operands(instruction, 3)?;
    let d = lowering.destination(&instruction.operands[0], ty)?;
    let a = lowering.source(&instruction.operands[1], ty)?;
    let b = lowering.source(&instruction.operands[2], ty)?;
    carry(lowering, d, a, b, ty, subtract, sets, uses)
}

/// `d = a + b + carry` (or `a - b - borrow`), and the new carry. The flag is a row of the warp, 0 or 1.
#[allow(clippy::too_many_arguments)] // One instruction's operands and what it does with the flag.
fn carry(
    lowering: &mut Lowering<'_>,
    d: Slot,
    a: Slot,
    b: Slot,
    ty: ScalarType,
    subtract: bool,
    sets: bool,
    uses: bool,
) -> Result<()> {
    let flag = match lowering.carry {
        Some(flag) => flag,
        None => {
            let flag = lowering.rows.narrow(1);
            lowering.carry = Some(flag);
            flag
        }
    };
    let wide = ty.bytes() == 8;
    let old = if uses { flag } else { lowering.narrow(0) };
    // The new flag first, as the destination may be one of the sources; it goes to a row of its own, since the sum
    // still needs the old one.
    let fresh = lowering.rows.narrow(1);
    if sets {
        let run = match (wide, subtract) {
            (false, false) => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
                (u64::from(a) + u64::from(b) + u64::from(c) >> 32) as u32
            }),
            (false, true) => ternary::<u32, u32, u32, u32, _>(|a, b, c| {
                u32::from(u64::from(a) < u64::from(b) + u64::from(c))
            }),
            (true, false) => ternary::<u32, u64, u64, u32, _>(|a: u64, b: u64, c: u32| {
                (u128::from(a) + u128::from(b) + u128::from(c) >> 64) as u32
            }),
            (true, true) => ternary::<u32, u64, u64, u32, _>(|a: u64, b: u64, c: u32| {
                u32::from(u128::from(a) < u128::from(b) + u128::from(c))
            }),
        };
        let mut inst = lowering.inst(run);
        (inst.d, inst.a, inst.b, inst.c) = (fresh, a, b, old);
        lowering.emit(Class::Integer, inst);
    }
    let run = match (wide, subtract) {
        (false, false) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| a.wrapping_add(b).wrapping_add(c))
        }
        (false, true) => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| a.wrapping_sub(b).wrapping_sub(c))
        }
        (true, false) => ternary::<u64, u64, u64, u32, _>(|a, b, c: u32| {
            a.wrapping_add(b).wrapping_add(u64::from(c))
        }),
        (true, true) => ternary::<u64, u64, u64, u32, _>(|a, b, c: u32| {
            a.wrapping_sub(b).wrapping_sub(u64::from(c))
        }),
    };
    let mut inst = lowering.inst(run);
    (inst.d, inst.a, inst.b, inst.c) = (d, a, b, old);
    lowering.emit(Class::Integer, inst);
    if sets {
        let mut inst = lowering.inst(unary::<u32, u32, _>(|a| a));
        (inst.d, inst.a) = (flag, fresh);
        lowering.emit(Class::Integer, inst);
    }
    Ok(())
}
