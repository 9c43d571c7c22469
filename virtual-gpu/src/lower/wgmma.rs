//! `wgmma`.

use super::Result;
use super::context::Lowering;
use super::copy::group_count;
use super::modifiers::Modifiers;
use super::tensor::{shape, vector};
use crate::exec::ops::wgmma::{CommitProducts, IssueProduct, ProductFence, WaitProducts};
use crate::exec::{Class, Extra, Product, handler};
use crate::num::ScalarType::{self, *};
use crate::num::mma::{Mma, MmaShape};
use crate::ptx::{Instruction, Operand};

/// `wgmma` in all its forms.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let kind = modifiers.first().unwrap_or_default();
    if kind == "mma_async" && modifiers.take("sp") {
        return Err(lowering.unsupported(modifiers, "sparse products are not, yet"));
    }
    if !modifiers.take("sync") || !modifiers.take("aligned") {
        return Err(lowering.unsupported(modifiers, "only the .sync.aligned form is"));
    }
    let inst = match kind {
        "mma_async" => return product(lowering, instruction, modifiers),
        "fence" => lowering.inst(handler::<ProductFence>()),
        "commit_group" => lowering.inst(handler::<CommitProducts>()),
        "wait_group" => {
            let mut inst = lowering.inst(handler::<WaitProducts>());
            inst.imm = group_count(lowering, instruction)?;
            lowering.emit(Class::Sync, inst);
            return Ok(());
        }
        _ => return Err(lowering.unsupported(modifiers, "unknown operation")),
    };
    lowering.expect_operands(instruction, 0)?;
    lowering.emit(Class::Sync, inst);
    Ok(())
}

/// Whether there is a product of these types with `n` columns; the length of its sums.
fn depth(d: ScalarType, a: ScalarType, b: ScalarType, n: u32) -> Option<u32> {
    let (same, sums): (bool, &[ScalarType]) = match a {
        F16 => (b == F16, &[F16, F32]),
        BF16 => (b == BF16, &[F32]),
        TF32 => (b == TF32, &[F32]),
        E4M3 | E5M2 => (matches!(b, E4M3 | E5M2), &[F16, F32]),
        S8 | U8 => (matches!(b, S8 | U8), &[S32]),
        _ => (false, &[]),
    };
    let whole = n != 0 && n <= 256 && n.is_multiple_of(8);
    // Products of integers have fewer widths.
    let wide = d != S32 || n <= 32 && n != 0 || n.is_multiple_of(16);
    (same && sums.contains(&d) && whole && wide).then(|| 32 / a.bytes())
}

fn product(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let Some(MmaShape { m: 64, n, k }) = modifiers.pick(shape) else {
        return Err(lowering.unsupported(modifiers, "it has no shape of 64 rows"));
    };
    let satfinite = modifiers.take("satfinite");
    let [d, a, b] = modifiers.types()[..] else {
        return Err(lowering.unsupported(modifiers, "it needs the types of D, A and B"));
    };
    if depth(d, a, b, n) != Some(k) || satfinite && d != S32 {
        return Err(lowering.unsupported(modifiers, "not for this shape and these types"));
    }
    let mma = Mma {
        shape: MmaShape { m: 16, n: 8, k },
        a,
        b,
        c: d,
        d,
        satfinite,
    };
    let operands = &instruction.operands;
    let in_registers = matches!(operands.get(1), Some(Operand::Vector(_)));
    // Signs of A and B for all floats, and of 16 bits their transpositions, of A only in shared memory.
    let signs = if d == S32 { 0 } else { 2 };
    let turns = match (a.bytes(), in_registers) {
        (2, true) => 1,
        (2, false) => 2,
        _ => 0,
    };
    lowering.expect_operands(instruction, 4 + signs + turns)?;
    let sign = |at: usize| match immediate(&operands[at]) {
        Some(1) => Ok(false),
        Some(-1) => Ok(true),
        _ => Err(lowering.error("imm-scale-a and imm-scale-b are 1 or -1")),
    };
    let turn = |at: usize| match immediate(&operands[at]) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(lowering.error("imm-trans-a and imm-trans-b are 0 or 1")),
    };
    let last = operands.len() - 1;
    let (a_negated, b_negated) = match signs {
        2 => (sign(4)?, sign(5)?),
        _ => (false, false),
    };
    let (a_transposed, b_transposed) = match turns {
        2 => (turn(last - 1)?, turn(last)?),
        1 => (false, turn(last)?),
        _ => (false, false),
    };
    let registers = n as usize / 8 * mma.registers().2;
    let sums = vector(&operands[0]);
    if sums.len() != registers {
        return Err(lowering.error(format!(
            "D of {} has {} registers, not {registers}",
            modifiers.opcode,
            sums.len()
        )));
    }
    let mut slots = Vec::new();
    for sum in sums {
        slots.push(lowering.destination32(sum)?);
    }
    let mut sources = Vec::new();
    if in_registers {
        for source in vector(&operands[1]) {
            sources.push(lowering.source32(source)?);
        }
        if sources.len() != 4 {
            return Err(lowering.error(format!(
                "A of {} has {} registers, not 4",
                modifiers.opcode,
                sources.len()
            )));
        }
    }
    let mut inst = lowering.inst(handler::<IssueProduct>());
    if !in_registers {
        inst.a = lowering.source64(&operands[1])?;
    }
    inst.b = lowering.source64(&operands[2])?;
    let (adds, negated) = lowering.source_predicate(&operands[3])?;
    (inst.q, inst.flags) = (adds, u8::from(negated));
    inst.ext = lowering.extra(Extra::Product(Product {
        mma,
        n,
        d: slots,
        a: in_registers.then_some(sources),
        a_negated,
        b_negated,
        a_transposed,
        b_transposed,
    }));
    lowering.emit(Class::Tensor, inst);
    Ok(())
}

fn immediate(operand: &Operand) -> Option<i64> {
    match operand {
        Operand::Integer(value) => Some(*value as i64),
        Operand::Negative(inner) => immediate(inner).map(|value| -value),
        _ => None,
    }
}
