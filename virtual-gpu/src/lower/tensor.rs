//! Tensor-core instructions and the matrices that they take: `mma`, `ldmatrix`, `stmatrix`, `movmatrix`.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use crate::exec::ops::matrix::{GENERIC, MoveMatrix, load_matrix, store_matrix};
use crate::exec::ops::mma::product;
use crate::exec::{Access, Class, Extra, Order, Scope, Slot, handler};
use crate::num::ScalarType::{self, *};
use crate::num::mma::{Mma, MmaShape};
use crate::ptx::{Instruction, Operand};

/// `mma`, `ldmatrix`, `stmatrix`, `movmatrix`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if !modifiers.take("sync") || !modifiers.take("aligned") {
        return Err(lowering.unsupported(modifiers, "only the .sync.aligned form is"));
    }
    match modifiers.base {
        "mma" => mma(lowering, instruction, modifiers),
        "movmatrix" => move_matrix(lowering, instruction, modifiers),
        _ => matrix(lowering, instruction, modifiers),
    }
}

fn mma(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let Some(shape) = modifiers.pick(shape) else {
        return Err(lowering.unsupported(modifiers, "it has no shape"));
    };
    let layout = |part: &&&str| matches!(**part, "row" | "col");
    let layouts: Vec<&&str> = modifiers.rest().iter().filter(layout).collect();
    if layouts != [&"row", &"col"] || !modifiers.take("row") || !modifiers.take("col") {
        return Err(lowering.unsupported(modifiers, "only .row.col is"));
    }
    let satfinite = modifiers.take("satfinite");
    let types = modifiers.types();
    if let Some(first) = modifiers.rest().first() {
        return Err(lowering.unsupported(modifiers, &format!("modifier .{first}")));
    }
    let [d, a, b, c] = types[..] else {
        return Err(lowering.unsupported(modifiers, "it needs the types of D, A, B and C"));
    };
    let mma = Mma {
        shape,
        a,
        b,
        c,
        d,
        satfinite,
    };
    mma.check().map_err(|message| lowering.error(message))?;
    lowering.expect_operands(instruction, 4)?;
    let (a_rows, b_rows, c_rows) = mma.registers();
    let mut slots = Vec::new();
    for (operand, rows, ty) in [
        (0, c_rows, d),
        (1, a_rows, a),
        (2, b_rows, b),
        (3, c_rows, c),
    ] {
        let items = vector(&instruction.operands[operand]);
        let words = if ty == F64 { 2 } else { 1 };
        if items.len() * words != rows {
            return Err(lowering.error(format!(
                "operand {operand} of {} has {} registers, not {}",
                modifiers.opcode,
                items.len(),
                rows / words
            )));
        }
        for item in items {
            let slot = register(lowering, item, ty, operand == 0)?;
            slots.extend((0..words as u32).map(|word| slot.offset(word)));
        }
    }
    let mut inst = lowering.inst(product(&mma));
    inst.ext = lowering.extra(Extra::Mma(mma, slots));
    lowering.emit(Class::Tensor, inst);
    Ok(())
}

/// `m16n8k16` and the like.
pub fn shape(part: &str) -> Option<MmaShape> {
    let (m, rest) = part.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some(MmaShape {
        m: m.parse().ok()?,
        n: n.parse().ok()?,
        k: k.parse().ok()?,
    })
}

/// The registers of a fragment, which need no braces if there is one.
pub fn vector(operand: &Operand) -> &[Operand] {
    match operand {
        Operand::Vector(items) => items,
        single => std::slice::from_ref(single),
    }
}

fn register(
    lowering: &mut Lowering<'_>,
    operand: &Operand,
    ty: ScalarType,
    written: bool,
) -> Result<Slot> {
    let width = if ty == F64 { F64 } else { B32 };
    if written {
        lowering.destination(operand, width)
    } else {
        lowering.source(operand, width)
    }
}

fn move_matrix(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if !modifiers.take("m8n8") || !modifiers.take("trans") || !modifiers.take("b16") {
        return Err(lowering.unsupported(modifiers, "only .m8n8.trans.b16 is"));
    }
    lowering.expect_operands(instruction, 2)?;
    let mut inst = lowering.inst(handler::<MoveMatrix>());
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    lowering.emit(Class::Tensor, inst);
    Ok(())
}

/// `ldmatrix` and `stmatrix`.
fn matrix(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let writes = modifiers.base == "stmatrix";
    if !modifiers.take("m8n8") || !modifiers.take("b16") {
        return Err(lowering.unsupported(modifiers, "only .m8n8 of .b16 is"));
    }
    let count = modifiers.pick(|part| {
        Some(match part {
            "x1" => 1,
            "x2" => 2,
            "x4" => 4,
            _ => return None,
        })
    });
    let transposed = modifiers.take("trans");
    let shared = modifiers.take("shared") || modifiers.take("shared::cta");
    let run = count.and_then(|count| match writes {
        true => store_matrix(count, transposed),
        false => load_matrix(count, transposed),
    });
    let (Some(count), Some(run)) = (count, run) else {
        return Err(lowering.unsupported(modifiers, "it needs .x1, .x2 or .x4"));
    };
    lowering.expect_operands(instruction, 2)?;
    let (values, place) = if writes { (1, 0) } else { (0, 1) };
    let Operand::Address(address) = &instruction.operands[place] else {
        return Err(lowering.error("expected an address in brackets"));
    };
    let items = vector(&instruction.operands[values]);
    if items.len() != count {
        return Err(lowering.error(format!(
            "{} takes {count} registers, found {}",
            modifiers.opcode,
            items.len()
        )));
    }
    let mut registers = Vec::new();
    for item in items {
        registers.push(Some((register(lowering, item, B32, !writes)?, false)));
    }
    let mut inst = lowering.inst(run);
    let (base, offset, wide_address) = lowering.address(address)?;
    inst.a = base;
    inst.flags = if shared { 0 } else { GENERIC };
    inst.ext = lowering.extra(Extra::Access(Access {
        ty: B16,
        registers,
        offset,
        wide_address,
        order: Order::Weak,
        scope: Scope::Cta,
        used_bytes: u32::MAX,
        collective: true,
        asynchronous: false,
    }));
    lowering.emit(Class::Tensor, inst);
    Ok(())
}
