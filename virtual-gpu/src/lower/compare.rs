//! `setp` and `set`.

use super::Result;
use super::context::Lowering;
use super::integer::{comparison, positive};
use super::modifiers::Modifiers;
use crate::exec::{Class, Handler, Predicate, binary, ternary, unary};
use crate::num::ScalarType::{self, *};
use crate::num::{float32, half};
use crate::ptx::{Instruction, Operand};

/// `setp`: a comparison to a predicate, its complement to a second, both combined with a third where one is given.
pub fn setp(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let Some(ty) = modifiers.last_type() else {
        return Err(lowering.unsupported(modifiers, "it has no type"));
    };
    let run = compare(lowering, modifiers, ty)?;
    let combine =
        modifiers.pick(|part| matches!(part, "and" | "or" | "xor").then(|| part.to_string()));
    lowering.expect_operands(instruction, if combine.is_some() { 4 } else { 3 })?;
    let (first, second) = match &instruction.operands[0] {
        Operand::Pair(p, q) => (p.as_ref().clone(), Some(q.as_ref().clone())),
        other => (other.clone(), None),
    };
    let (a, b) = (
        lowering.source(&instruction.operands[1], ty)?,
        lowering.source(&instruction.operands[2], ty)?,
    );
    let packed = matches!(ty, F16x2 | BF16x2);
    if packed {
        // The first predicate is of the lower halves, the second of the upper ones.
        let high = unary::<u32, u32, _>(|a| a >> 16);
        let mut parts = [a, b];
        for part in &mut parts {
            let mut inst = lowering.inst(high);
            (inst.d, inst.a) = (lowering.rows.narrow(1), *part);
            *part = inst.d;
            lowering.emit(Class::Half, inst);
        }
        let extra = third(lowering, instruction, combine.as_deref())?;
        let q = second.map_or(Ok(Predicate::SINK), |q| lowering.destination_predicate(&q))?;
        let p = lowering.destination_predicate(&first)?;
        let (low, upper) = (fresh(lowering), fresh(lowering));
        emit_compare(lowering, run, low, a, b);
        emit_compare(lowering, run, upper, parts[0], parts[1]);
        emit_combine(lowering, combine.as_deref(), p, low, extra, false);
        emit_combine(lowering, combine.as_deref(), q, upper, extra, false);
        return Ok(());
    }
    if combine.is_none() && second.is_none() {
        let p = lowering.destination_predicate(&first)?;
        emit_compare(lowering, run, p, a, b);
        return Ok(());
    }
    let extra = third(lowering, instruction, combine.as_deref())?;
    let result = fresh(lowering);
    emit_compare(lowering, run, result, a, b);
    let p = lowering.destination_predicate(&first)?;
    emit_combine(lowering, combine.as_deref(), p, result, extra, false);
    if let Some(second) = second {
        let q = lowering.destination_predicate(&second)?;
        emit_combine(lowering, combine.as_deref(), q, result, extra, true);
    }
    Ok(())
}

/// The predicate that a comparison is combined with. It may be one of those that are written: it is kept in one that is
/// not.
fn third(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    combine: Option<&str>,
) -> Result<Option<Predicate>> {
    if combine.is_none() {
        return Ok(None);
    }
    let source = positive(lowering, lowering.operand(instruction, 3)?)?;
    let kept = fresh(lowering);
    let mut inst = lowering.inst(unary::<bool, bool, _>(|a| a));
    (inst.p, inst.q) = (kept, source);
    lowering.emit(Class::Move, inst);
    Ok(Some(kept))
}

/// A predicate of the instruction's own.
pub fn fresh(lowering: &mut Lowering<'_>) -> Predicate {
    lowering.rows.predicates += 1;
    Predicate((lowering.rows.predicates - 1) as u16)
}

fn emit_compare(
    lowering: &mut Lowering<'_>,
    run: Handler,
    p: Predicate,
    a: crate::exec::Slot,
    b: crate::exec::Slot,
) {
    let mut inst = lowering.inst(run);
    (inst.p, inst.a, inst.b) = (p, a, b);
    lowering.emit(Class::Integer, inst);
}

/// `p = result op extra`, with the result complemented if asked.
fn emit_combine(
    lowering: &mut Lowering<'_>,
    combine: Option<&str>,
    p: Predicate,
    result: Predicate,
    extra: Option<Predicate>,
    complement: bool,
) {
    let run = match (combine, complement) {
        (None, false) => unary::<bool, bool, _>(|a| a),
        (None, true) => unary::<bool, bool, _>(|a: bool| !a),
        (Some("and"), false) => binary::<bool, bool, bool, _>(|a, b| a & b),
        (Some("and"), true) => binary::<bool, bool, bool, _>(|a: bool, b| !a & b),
        (Some("or"), false) => binary::<bool, bool, bool, _>(|a, b| a | b),
        (Some("or"), true) => binary::<bool, bool, bool, _>(|a: bool, b| !a | b),
        (Some(_), false) => binary::<bool, bool, bool, _>(|a, b| a ^ b),
        (Some(_), true) => binary::<bool, bool, bool, _>(|a: bool, b| !a ^ b),
    };
    let mut inst = lowering.inst(run);
    (inst.p, inst.q, inst.r) = (p, result, extra.unwrap_or(Predicate::TRUE));
    lowering.emit(Class::Integer, inst);
}

/// `set`: a comparison to all ones or zero, or to 1.0 or 0.
pub fn set(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    let types: Vec<ScalarType> = modifiers.types();
    let &[to, from] = &types[..] else {
        return Err(lowering.unsupported(modifiers, "it needs two types"));
    };
    let run = compare(lowering, modifiers, from)?;
    let combine =
        modifiers.pick(|part| matches!(part, "and" | "or" | "xor").then(|| part.to_string()));
    lowering.expect_operands(instruction, if combine.is_some() { 4 } else { 3 })?;
    let (a, b) = (
        lowering.source(&instruction.operands[1], from)?,
        lowering.source(&instruction.operands[2], from)?,
    );
    if matches!(from, F16x2 | BF16x2) {
        let one = match to {
            U32 | S32 => 0xffff,
            F16x2 if from == F16x2 => 0x3c00,
            BF16x2 if from == BF16x2 => 0x3f80,
            _ => return Err(lowering.unsupported(modifiers, "unknown result type")),
        };
        let extra = third(lowering, instruction, combine.as_deref())?;
        return set_packed(
            lowering,
            instruction,
            run,
            one,
            (combine.as_deref(), extra),
            [a, b],
        );
    }
    let result = fresh(lowering);
    emit_compare(lowering, run, result, a, b);
    if combine.is_some() {
        let extra = positive(lowering, &instruction.operands[3])?;
        emit_combine(
            lowering,
            combine.as_deref(),
            result,
            result,
            Some(extra),
            false,
        );
    }
    let (yes, run) = match to {
        U32 | S32 => (u32::MAX, select()),
        F32 => (1f32.to_bits(), select()),
        F16 => (0x3c00, select()),
        BF16 => (0x3f80, select()),
        U16 | S16 if matches!(from, F16 | BF16) => (0xffff, select()),
        _ => return Err(lowering.unsupported(modifiers, "unknown result type")),
    };
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    (inst.a, inst.b, inst.q) = (lowering.narrow(yes), lowering.narrow(0), result);
    lowering.emit(Class::Integer, inst);
    Ok(())
}

fn select() -> Handler {
    ternary::<u32, u32, u32, bool, _>(|a, b, c| if c { a } else { b })
}

/// A comparison of both halves, each to `one` or zero.
fn set_packed(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    run: Handler,
    one: u32,
    (combine, extra): (Option<&str>, Option<Predicate>),
    [a, b]: [crate::exec::Slot; 2],
) -> Result<()> {
    let mut halves = [a, b];
    for (index, part) in halves.iter_mut().enumerate() {
        let mut inst = lowering.inst(unary::<u32, u32, _>(|a| a >> 16));
        (inst.d, inst.a) = (lowering.rows.narrow(1), [a, b][index]);
        *part = inst.d;
        lowering.emit(Class::Half, inst);
    }
    let (low, high) = (fresh(lowering), fresh(lowering));
    emit_compare(lowering, run, low, a, b);
    emit_compare(lowering, run, high, halves[0], halves[1]);
    if combine.is_some() {
        emit_combine(lowering, combine, low, low, extra, false);
        emit_combine(lowering, combine, high, high, extra, false);
    }
    let d = lowering.destination32(&instruction.operands[0])?;
    let mut inst = lowering.inst(select());
    (inst.d, inst.a, inst.b, inst.q) = (d, lowering.narrow(one), lowering.narrow(0), low);
    lowering.emit(Class::Half, inst);
    let mut inst = lowering.inst(ternary::<u32, u32, u32, bool, _>(|a, b, c| {
        a | if c { b } else { 0 }
    }));
    (inst.d, inst.a, inst.b, inst.q) = (d, d, lowering.narrow(one << 16), high);
    lowering.emit(Class::Half, inst);
    Ok(())
}

/// The handler of a comparison. The lower halves are compared where the type is packed.
fn compare(
    lowering: &mut Lowering<'_>,
    modifiers: &mut Modifiers<'_>,
    ty: ScalarType,
) -> Result<Handler> {
    let ftz = matches!(ty, F32 | F16 | F16x2) && modifiers.take("ftz");
    let Some(name) = modifiers.first() else {
        return Err(lowering.unsupported(modifiers, "it has no comparison"));
    };
    let run = match ty {
        F32 if ftz => float_compare(name, |x: u32| float32::ftz(f32::from_bits(x))),
        F32 => float_compare(name, |x: u32| f32::from_bits(x)),
        F64 => double_compare(name),
        F16 | F16x2 if ftz => {
            float_compare(name, |x: u32| half::f16_to_f32(half::f16_ftz(x as u16)))
        }
        F16 | F16x2 => float_compare(name, |x: u32| half::f16_to_f32(x as u16)),
        BF16 | BF16x2 => float_compare(name, |x: u32| half::bf16_to_f32(x as u16)),
        _ => comparison(name, ty),
    };
    run.ok_or_else(|| lowering.unsupported(modifiers, &format!("comparison .{name} of this type")))
}

macro_rules! comparisons {
    ($name:expr, $word:ty, |$x:ident| $value:expr) => {{
        macro_rules! on {
            (|$a:ident, $b:ident| $body:expr) => {
                binary::<bool, $word, $word, _>(move |$a, $b| {
                    let value = |$x: $word| $value;
                    let ($a, $b) = (value($a), value($b));
                    $body
                })
            };
        }
        Some(match $name {
            "eq" => on!(|a, b| a == b),
            "ne" => on!(|a, b| a < b || a > b),
            "lt" => on!(|a, b| a < b),
            "le" => on!(|a, b| a <= b),
            "gt" => on!(|a, b| a > b),
            "ge" => on!(|a, b| a >= b),
            "equ" => on!(|a, b| !(a < b || a > b)),
            "neu" => on!(|a, b| !(a == b)),
            "ltu" => on!(|a, b| !(a >= b)),
            "leu" => on!(|a, b| !(a > b)),
            "gtu" => on!(|a, b| !(a <= b)),
            "geu" => on!(|a, b| !(a < b)),
            "num" => on!(|a, b| !a.is_nan() && !b.is_nan()),
            "nan" => on!(|a, b| a.is_nan() || b.is_nan()),
            _ => return None,
        })
    }};
}

fn float_compare<F: Fn(u32) -> f32 + Copy + 'static>(name: &str, value: F) -> Option<Handler> {
    comparisons!(name, u32, |x| value(x))
}

fn double_compare(name: &str) -> Option<Handler> {
    comparisons!(name, u64, |x| f64::from_bits(x))
}
