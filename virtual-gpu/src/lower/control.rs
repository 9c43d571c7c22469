//! Branches, calls and ends.

use super::Result;
use super::context::{Lowering, Symbol};
use super::function::{Builder, nothing};
use super::modifiers::Modifiers;
use super::registers::Place;
use crate::exec::{Call, Class, Extra, Slot, handler, ops};
use crate::ptx::{Instruction, Module, Operand, Statement};

/// `bra`, `brx`, `ret`, `exit`, `trap`, `brkpt`, `nanosleep`, `pmevent`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    modifiers.take("uni");
    match modifiers.base {
        "bra" => {
            lowering.expect_operands(instruction, 1)?;
            let label = label(lowering, lowering.operand(instruction, 0)?)?;
            let label = lowering.label(&label);
            lowering.fixups.push((lowering.code.len(), label));
            let inst = lowering.inst(handler::<ops::control::Branch>());
            lowering.emit(Class::Branch, inst);
        }
        "brx" => {
            if !modifiers.take("idx") {
                return Err(lowering.unsupported(modifiers, "only brx.idx is"));
            }
            lowering.expect_operands(instruction, 2)?;
            let list = label(lowering, lowering.operand(instruction, 1)?)?;
            let Some(targets) = lowering.targets.get(&list).cloned() else {
                return Err(lowering.error(format!("there is no list of branch targets {list}")));
            };
            let mut inst = lowering.inst(handler::<ops::control::BranchIndexed>());
            inst.a = lowering.source32(lowering.operand(instruction, 0)?)?;
            inst.ext = lowering.extra(Extra::Table(Vec::new()));
            lowering.tables.push((inst.ext as usize, targets));
            lowering.emit(Class::Branch, inst);
        }
        "ret" if !lowering.in_kernel => {
            let inst = lowering.inst(handler::<ops::control::Return>());
            lowering.emit(Class::Branch, inst);
        }
        "ret" | "exit" => {
            let inst = lowering.inst(handler::<ops::control::Exit>());
            lowering.emit(Class::Branch, inst);
        }
        "trap" | "brkpt" => {
            let inst = lowering.inst(handler::<ops::control::Trap>());
            lowering.emit(Class::Other, inst);
        }
        "nanosleep" => {
            modifiers.take("u32");
            lowering.expect_operands(instruction, 1)?;
            lowering.source32(&instruction.operands[0])?;
            let inst = lowering.inst(handler::<ops::control::Sleep>());
            lowering.emit(Class::Other, inst);
        }
        _ => {
            modifiers.take("mask");
            nothing(lowering);
        }
    }
    Ok(())
}

/// Ends a body: code that runs off its end returns.
pub fn end(lowering: &mut Lowering<'_>) {
    let run = if lowering.in_kernel {
        handler::<ops::control::Exit>()
    } else {
        handler::<ops::control::Return>()
    };
    let mut inst = lowering.inst(run);
    (inst.guard, inst.negate, inst.guarded) = (crate::exec::Predicate::TRUE, false, false);
    lowering.emit(Class::Branch, inst);
}

fn label(lowering: &Lowering<'_>, operand: &Operand) -> Result<String> {
    match operand {
        Operand::Name(name) => Ok(name.clone()),
        _ => Err(lowering.error("expected a label")),
    }
}

/// Whether the function at `index` can come to call itself.
pub fn calls_itself(module: &Module, index: usize) -> bool {
    let callees = |index: usize| -> Vec<usize> {
        let body = module.functions[index].body.iter().flatten();
        let operands = body.filter_map(|statement| match statement {
            Statement::Instruction(instruction) if instruction.opcode.starts_with("call") => {
                Some(&instruction.operands)
            }
            _ => None,
        });
        operands
            .flatten()
            .filter_map(|operand| match operand {
                Operand::Name(name) => module.function(name),
                _ => None,
            })
            .collect()
    };
    let mut seen = vec![false; module.functions.len()];
    let mut open = callees(index);
    while let Some(next) = open.pop() {
        if next == index {
            return true;
        }
        if !std::mem::replace(&mut seen[next], true) {
            open.extend(callees(next));
        }
    }
    false
}

/// `call`.
pub fn call(
    builder: &mut Builder<'_>,
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    modifiers.take("uni");
    let mut operands = instruction.operands.iter().peekable();
    let returns = match operands.peek() {
        Some(Operand::List(items)) => {
            operands.next();
            words(lowering, items)?
        }
        _ => Vec::new(),
    };
    let Some(Operand::Name(name)) = operands.next() else {
        return Err(lowering.error("call needs a function"));
    };
    let arguments = match operands.next() {
        Some(Operand::List(items)) => words(lowering, items)?,
        _ => Vec::new(),
    };
    match (name.as_str(), lowering.symbol(name)) {
        ("vprintf" | "__assertfail", _) => builtin(lowering, name, &arguments, &returns),
        (_, Some(Symbol::Function(index))) => {
            let call = direct(builder, lowering, index, &arguments, &returns)?;
            let mut inst = lowering.inst(handler::<ops::control::CallFunction>());
            inst.ext = lowering.extra(Extra::Call(call));
            lowering.calls.push((inst.ext as usize, index));
            lowering.emit(Class::Branch, inst);
            Ok(())
        }
        _ => {
            let Some(Place::Wide(pointer)) = lowering.register(name) else {
                return Err(lowering.error(format!(
                    "{name} is neither a function nor a register that holds one"
                )));
            };
            indirect(builder, lowering, pointer, &arguments, &returns)
        }
    }
}

/// Rows of the `.param`s of a call.
fn words(lowering: &mut Lowering<'_>, items: &[Operand]) -> Result<Vec<(Slot, u32)>> {
    items
        .iter()
        .map(|item| match item {
            Operand::Name(name) => match lowering.symbol(name) {
                Some(Symbol::Words(slot, count)) => Ok((slot, count)),
                _ => Err(lowering.error(format!("{name} is no .param of this call"))),
            },
            _ => Err(lowering.error("arguments of a call must be .param variables")),
        })
        .collect()
}

fn pair(from: &[(Slot, u32)], to: &[(Slot, u32)]) -> Option<Vec<(Slot, Slot)>> {
    if from.len() != to.len() {
        return None;
    }
    let mut rows = Vec::new();
    for ((from, count), (to, expected)) in from.iter().zip(to) {
        if count != expected {
            return None;
        }
        rows.extend((0..*count).map(|row| (from.offset(row), to.offset(row))));
    }
    Some(rows)
}

fn direct(
    builder: &mut Builder<'_>,
    lowering: &mut Lowering<'_>,
    index: u32,
    arguments: &[(Slot, u32)],
    returns: &[(Slot, u32)],
) -> Result<Call> {
    let words = builder.words_of(lowering, index);
    match (
        pair(arguments, &words.parameters),
        pair(&words.returns, returns),
    ) {
        (Some(arguments), Some(returns)) => Ok(Call {
            arguments,
            returns,
            target: None,
            end: 0,
            candidates: Vec::new(),
        }),
        _ => {
            let name = &builder.module.functions[index as usize].name;
            Err(lowering.error(format!("the call does not match the parameters of {name}")))
        }
    }
}

/// A call through a pointer: every function of the module with these parameters is a candidate.
fn indirect(
    builder: &mut Builder<'_>,
    lowering: &mut Lowering<'_>,
    pointer: Slot,
    arguments: &[(Slot, u32)],
    returns: &[(Slot, u32)],
) -> Result<()> {
    let mut candidates = Vec::new();
    for index in 0..builder.module.functions.len() as u32 {
        let function = &builder.module.functions[index as usize];
        if function.entry || function.body.is_none() {
            continue;
        }
        if let Ok(call) = direct(builder, lowering, index, arguments, returns) {
            candidates.push((index, call));
        }
    }
    let mut inst = lowering.inst(handler::<ops::control::CallFunction>());
    inst.a = pointer;
    let indices: Vec<u32> = candidates.iter().map(|(index, _)| *index).collect();
    inst.ext = lowering.extra(Extra::Call(Call {
        arguments: Vec::new(),
        returns: Vec::new(),
        target: None,
        end: 0,
        candidates,
    }));
    lowering
        .calls
        .extend(indices.into_iter().map(|index| (inst.ext as usize, index)));
    lowering.emit(Class::Branch, inst);
    Ok(())
}

fn builtin(
    lowering: &mut Lowering<'_>,
    name: &str,
    arguments: &[(Slot, u32)],
    returns: &[(Slot, u32)],
) -> Result<()> {
    let needed = if name == "vprintf" { 2 } else { 3 };
    if arguments.len() < needed {
        return Err(lowering.error(format!("{name} is called with too few arguments")));
    }
    let run = if name == "vprintf" {
        handler::<ops::printf::Print>()
    } else {
        handler::<ops::printf::AssertFail>()
    };
    let mut inst = lowering.inst(run);
    (inst.a, inst.b) = (arguments[0].0, arguments[1].0);
    if name == "vprintf" {
        inst.d = returns
            .first()
            .map_or_else(|| lowering.rows.narrow(1), |words| words.0);
    } else {
        inst.c = arguments[2].0;
    }
    lowering.emit(Class::Other, inst);
    Ok(())
}
