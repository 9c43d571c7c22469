//! Kernels and the functions that they call.

use super::context::{Lowering, Symbol};
use super::registers::Registers;
use super::shared::Layout;
use super::{
    Result, control, convert, copy, float, half, integer, mbarrier, memory, moves, tensor, warp,
    wmma,
};
use crate::exec::{Class, Extra, Inst, Limits, ParameterLayout, Program, Watch, handler, ops};
use crate::lower::modifiers::Modifiers;
use crate::ptx::{Function, Instruction, Module, Parameter, PtxError, Space, Statement, Variable};
use std::collections::{HashMap, HashSet};

/// Lowers the kernel at `index` of `module`, whose text is `source`.
pub fn kernel(module: &Module, index: usize, source: &str) -> Result<Program> {
    let function = &module.functions[index];
    let at_kernel = |message: String| PtxError::new(source, function.line, message);
    let body = function
        .body
        .as_ref()
        .ok_or_else(|| at_kernel("a kernel without a body".into()))?;
    let (parameters, parameter_bytes) = parameter_layout(&function.parameters);
    if parameter_bytes > 32_764 {
        return Err(at_kernel(format!(
            "{parameter_bytes} bytes of parameters are more than a kernel may have"
        )));
    }
    let expanded = wmma::expand(body);
    let expanded = expanded.map_err(|(line, what)| PtxError::new(source, line, what))?;
    let body = &expanded[..];
    let mut lowering = Lowering::new(source, Registers::new(body).map_err(at_kernel)?);
    let layout = Layout::new(module, function).map_err(|(line, name)| {
        PtxError::new(
            source,
            line,
            format!("{name} does not fit into shared memory"),
        )
    })?;
    declare_module(&mut lowering, module, &layout);
    for (parameter, place) in function.parameters.iter().zip(&parameters) {
        lowering.symbols[0].insert(parameter.name.clone(), Symbol::Parameter(place.offset));
    }
    let mut builder = Builder {
        module,
        layout,
        functions: HashMap::new(),
        words: HashMap::new(),
        local_bytes: 0,
    };
    builder.body(&mut lowering, body)?;
    builder.callees(&mut lowering)?;
    Inst::mark_straight(&mut lowering.code);
    let limits = limits(function);
    let shared_bytes = builder.layout.end();
    let named = lowering.named.unwrap_or_default();
    let mut program = Program {
        name: function.name.clone(),
        code: lowering.code,
        origins: lowering.origins,
        constants: lowering.constants,
        extras: lowering.extras,
        rows: lowering.rows.rows.max(1),
        predicates: lowering.rows.predicates,
        local_bytes: builder.local_bytes,
        shared_declared: builder.layout.declared(),
        shared: builder.layout.into_variables(),
        shared_bytes,
        parameters,
        parameter_bytes,
        limits,
        watch: None,
    };
    program.watch = Watch::new(&program, &named);
    Ok(program)
}

/// Offsets of parameters, each aligned as it asks.
pub fn parameter_layout(parameters: &[Parameter]) -> (Vec<ParameterLayout>, u32) {
    let mut at = 0u32;
    let layout = parameters
        .iter()
        .map(|parameter| {
            let offset = at.next_multiple_of(parameter.align);
            at = offset + parameter.bytes;
            ParameterLayout {
                offset,
                bytes: parameter.bytes,
                align: parameter.align,
            }
        })
        .collect();
    (layout, at)
}

fn limits(function: &Function) -> Limits {
    let mut limits = Limits::default();
    let three = |values: &[u32]| {
        let at = |index: usize| values.get(index).copied().unwrap_or(1);
        [at(0), at(1), at(2)]
    };
    for (name, values) in &function.limits {
        match name.as_str() {
            "maxntid" => {
                limits.max_threads = three(values)
                    .iter()
                    .fold(1, |product: u32, n| product.saturating_mul(*n))
            }
            "reqntid" => limits.required = three(values),
            "maxnreg" => limits.max_registers = values.first().copied().unwrap_or(0),
            // Without numbers it only says that there will be clusters.
            "reqnctapercluster" if !values.is_empty() => limits.cluster = three(values),
            "explicitcluster" => limits.explicit_cluster = true,
            "maxclusterrank" => limits.max_cluster = values.first().copied().unwrap_or(0),
            _ => {}
        }
    }
    limits
}

fn declare_module(lowering: &mut Lowering<'_>, module: &Module, layout: &Layout) {
    for (index, variable) in module.variables.iter().enumerate() {
        let symbol = match variable.space {
            Space::Global => Symbol::Global(index as u32),
            Space::Const => Symbol::Constant(index as u32),
            Space::Shared => Symbol::Shared(layout.offset(&variable.name)),
            _ => continue,
        };
        lowering.symbols[0].insert(variable.name.clone(), symbol);
    }
    for function in &module.functions {
        if let Some(index) = module.function(&function.name) {
            lowering.symbols[0].insert(function.name.clone(), Symbol::Function(index as u32));
        }
    }
}

/// Bodies still to be lowered, and where their parts are.
pub struct Builder<'m> {
    /// The module.
    pub module: &'m Module,
    layout: Layout,
    /// First and last instruction of lowered functions.
    functions: HashMap<u32, (u32, u32)>,
    /// Rows of a function's parameters and results: for each the first row and how many.
    words: HashMap<u32, FunctionWords>,
    local_bytes: u32,
}

/// Rows of the `.param`s of a device function.
#[derive(Clone, Debug, Default)]
pub struct FunctionWords {
    /// Parameters in order.
    pub parameters: Vec<(crate::exec::Slot, u32)>,
    /// Results in order.
    pub returns: Vec<(crate::exec::Slot, u32)>,
}

impl Builder<'_> {
    fn body(&mut self, lowering: &mut Lowering<'_>, body: &[Statement]) -> Result<()> {
        let mut labels: HashMap<String, u32> = HashMap::new();
        let mut nested = nested_labels(body);
        for (index, statement) in body.iter().enumerate() {
            let registered = lowering.registers.enter(statement);
            registered.map_err(|message| lowering.error(message))?;
            match statement {
                Statement::Label(name) => {
                    if labels
                        .insert(lowering.label(name), lowering.code.len() as u32)
                        .is_some()
                    {
                        return Err(lowering.error(format!("the label {name} stands twice")));
                    }
                }
                Statement::Open => {
                    lowering.symbols.push(HashMap::new());
                    let labels = nested.remove(&index).unwrap_or_default();
                    lowering.label_scopes.push((index, labels));
                }
                Statement::Close => {
                    lowering.label_scopes.pop();
                    lowering.symbols.pop();
                }
                Statement::Location(location) => {
                    lowering.location = (location.line != 0)
                        .then_some(*location)
                        .or(lowering.location)
                }
                Statement::Pragma(texts) => {
                    if let Some(mask) = texts.iter().find_map(|text| used_bytes(text)) {
                        lowering.used_bytes = mask;
                    }
                }
                Statement::Variable(variable) => self.variable(lowering, variable)?,
                Statement::BranchTargets(name, targets) => {
                    let targets = targets
                        .iter()
                        .map(|target| lowering.label(target))
                        .collect();
                    lowering.targets.insert(name.clone(), targets);
                }
                Statement::CallPrototype(..) => {}
                Statement::Instruction(instruction) => {
                    lowering.begin(instruction)?;
                    self.instruction(lowering, instruction)?;
                }
            }
            lowering.registers.leave();
        }
        // Code that runs off its end returns.
        control::end(lowering);
        self.resolve(lowering, &labels)
    }

    /// Fills in branch targets.
    fn resolve(
        &mut self,
        lowering: &mut Lowering<'_>,
        labels: &HashMap<String, u32>,
    ) -> Result<()> {
        let find = |lowering: &Lowering<'_>, label: &str| {
            labels
                .get(label)
                .copied()
                .ok_or_else(|| lowering.error(format!("there is no label {label}")))
        };
        for (index, label) in std::mem::take(&mut lowering.fixups) {
            lowering.at_line(lowering.origins[index].ptx_line);
            lowering.code[index].imm = find(lowering, &label)?;
        }
        for (extra, targets) in std::mem::take(&mut lowering.tables) {
            let table: Result<Vec<u32>> =
                targets.iter().map(|label| find(lowering, label)).collect();
            lowering.extras[extra] = Extra::Table(table?);
        }
        lowering.targets.clear();
        Ok(())
    }

    fn variable(&mut self, lowering: &mut Lowering<'_>, variable: &Variable) -> Result<()> {
        lowering.at_line(variable.line);
        let symbol = match variable.space {
            Space::Reg => return Ok(()),
            Space::Shared => Symbol::Shared(self.layout.offset(&variable.name)),
            Space::Local => {
                let offset = self.local_bytes.next_multiple_of(variable.align.max(1));
                let end = u64::from(offset) + variable.bytes;
                if end > 512 << 10 {
                    return Err(lowering.error(format!(
                        "{} needs more local memory than a thread has",
                        variable.name
                    )));
                }
                self.local_bytes = end as u32;
                Symbol::Local(offset)
            }
            Space::Param => {
                let words = (variable.bytes as u32).div_ceil(4).max(1);
                Symbol::Words(lowering.rows.narrow(words), words)
            }
            Space::Global | Space::Const => {
                return Err(lowering.error(format!(
                    "{} must be declared outside of functions",
                    variable.name
                )));
            }
        };
        match lowering.symbols.last_mut() {
            Some(scope) => scope.insert(variable.name.clone(), symbol),
            None => return Err(lowering.error("a scope is closed that was not opened")),
        };
        Ok(())
    }

    /// Lowers the functions that have been called, and those that they call.
    fn callees(&mut self, lowering: &mut Lowering<'_>) -> Result<()> {
        while let Some((extra, index)) = lowering.calls.pop() {
            let (start, end) = match self.functions.get(&index) {
                Some(place) => *place,
                None => self.device_function(lowering, index)?,
            };
            if let Extra::Call(call) = &mut lowering.extras[extra] {
                set_target(call, index, start, end);
            }
        }
        Ok(())
    }

    fn device_function(&mut self, lowering: &mut Lowering<'_>, index: u32) -> Result<(u32, u32)> {
        let module = self.module;
        let function = &module.functions[index as usize];
        lowering.at_line(function.line);
        let Some(body) = &function.body else {
            return Err(lowering.error(format!("the function {} has no body", function.name)));
        };
        if control::calls_itself(module, index as usize) {
            return Err(lowering.error(format!(
                "{} is recursive, which is not supported",
                function.name
            )));
        }
        let expanded = wmma::expand(body)
            .map_err(|(line, what)| PtxError::new(lowering.source, line, what))?;
        let body = &expanded[..];
        let registers = Registers::new(body).map_err(|message| lowering.error(message))?;
        lowering.registers = registers;
        lowering.in_kernel = false;
        lowering.location = None;
        lowering.carry = None;
        let words = self.words_of(lowering, index);
        lowering.symbols.push(HashMap::new());
        let names = function
            .parameters
            .iter()
            .zip(&words.parameters)
            .chain(function.returns.iter().zip(&words.returns));
        for (parameter, (slot, count)) in names {
            if let Some(scope) = lowering.symbols.last_mut() {
                scope.insert(parameter.name.clone(), Symbol::Words(*slot, *count));
            }
        }
        let start = lowering.code.len() as u32;
        self.functions.insert(index, (start, u32::MAX));
        self.body(lowering, body)?;
        lowering.symbols.pop();
        let place = (start, lowering.code.len() as u32);
        self.functions.insert(index, place);
        Ok(place)
    }

    /// Rows of a function's parameters and results.
    pub fn words_of(&mut self, lowering: &mut Lowering<'_>, index: u32) -> FunctionWords {
        if let Some(words) = self.words.get(&index) {
            return words.clone();
        }
        let function = &self.module.functions[index as usize];
        let rows = |lowering: &mut Lowering<'_>, parameters: &[Parameter]| {
            parameters
                .iter()
                .map(|parameter| {
                    let count = parameter.bytes.div_ceil(4).max(1);
                    (lowering.rows.narrow(count), count)
                })
                .collect()
        };
        let parameters = rows(lowering, &function.parameters);
        let returns = rows(lowering, &function.returns);
        let words = FunctionWords {
            parameters,
            returns,
        };
        self.words.insert(index, words.clone());
        words
    }

    fn instruction(
        &mut self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
    ) -> Result<()> {
        let mut modifiers = Modifiers::new(&instruction.opcode);
        let modifiers = &mut modifiers;
        match modifiers.base {
            "bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" | "nanosleep" | "pmevent" => {
                control::lower(lowering, instruction, modifiers)?;
            }
            "call" => control::call(self, lowering, instruction, modifiers)?,
            "mov" | "cvta" | "isspacep" | "selp" | "slct" | "prmt" | "mapa" | "getctarank" => {
                moves::lower(lowering, instruction, modifiers)?;
            }
            "cvt" => convert::lower(lowering, instruction, modifiers)?,
            "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" | "applypriority"
            | "discard" | "createpolicy" | "membar" | "fence" => {
                memory::lower(lowering, instruction, modifiers)?
            }
            "bar" | "barrier" | "shfl" | "vote" | "match" | "redux" | "activemask" | "elect"
            | "griddepcontrol" | "setmaxnreg" => warp::lower(lowering, instruction, modifiers)?,
            "cp" => copy::lower(lowering, instruction, modifiers)?,
            "mbarrier" => mbarrier::lower(lowering, instruction, modifiers)?,
            "mma" | "ldmatrix" | "stmatrix" | "movmatrix" => {
                tensor::lower(lowering, instruction, modifiers)?
            }
            "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "bfe"
            | "bfi" | "bfind" | "brev" | "clz" | "popc" | "fns" | "bmsk" | "szext" | "dp4a"
            | "dp2a" | "mul24" | "mad24" | "sad" | "addc" | "subc" | "madc" => {
                integer::lower(lowering, instruction, modifiers)?
            }
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min"
            | "max" | "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh"
            | "copysign" | "testp" | "setp" | "set" => {
                self.arithmetic(lowering, instruction, modifiers)?;
            }
            "wgmma" => super::wgmma::lower(lowering, instruction, modifiers)?,
            "tcgen05" | "tensormap" | "multimem" | "clusterlaunchcontrol" | "wmma" => {
                return Err(lowering.error(format!(
                    "the instruction {} is not supported yet",
                    instruction.opcode
                )));
            }
            _ => {
                return Err(lowering.error(format!(
                    "the instruction {} is not supported",
                    instruction.opcode
                )));
            }
        }
        lowering.finish(modifiers)
    }

    /// Instructions that integers, floats and halves share, by the type that they end in.
    fn arithmetic(
        &mut self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        modifiers: &mut Modifiers<'_>,
    ) -> Result<()> {
        use crate::num::ScalarType::*;
        if matches!(modifiers.rest().last(), Some(&("u16x2" | "s16x2"))) {
            return super::packed::lower(lowering, instruction, modifiers);
        }
        match modifiers.rest() {
            [.., "f32x2"] => return super::pair::lower(lowering, instruction, modifiers),
            [.., "f32", "f16" | "bf16"] => {
                return super::mixed::lower(lowering, instruction, modifiers);
            }
            _ => {}
        }
        let Some(ty) = modifiers
            .rest()
            .last()
            .and_then(|part| crate::num::ScalarType::from_suffix(part))
        else {
            return Err(lowering.unsupported(modifiers, "it has no type"));
        };
        match ty {
            F32 | F64 => float::lower(lowering, instruction, modifiers),
            F16 | F16x2 | BF16 | BF16x2 => half::lower(lowering, instruction, modifiers),
            _ => integer::lower(lowering, instruction, modifiers),
        }
    }
}

/// Labels of nested scopes, by the index of the brace that opens the scope.
fn nested_labels(body: &[Statement]) -> HashMap<usize, HashSet<String>> {
    let mut labels: HashMap<usize, HashSet<String>> = HashMap::new();
    let mut open = Vec::new();
    for (index, statement) in body.iter().enumerate() {
        match (statement, open.last()) {
            (Statement::Open, _) => open.push(index),
            (Statement::Close, _) => _ = open.pop(),
            (Statement::Label(name), Some(scope)) => {
                labels.entry(*scope).or_default().insert(name.clone());
            }
            _ => {}
        }
    }
    labels
}

/// The mask of the pragma `used_bytes_mask`; a mask that is no number says nothing.
fn used_bytes(text: &str) -> Option<u32> {
    let mask = text.trim().strip_prefix("used_bytes_mask")?.trim();
    match mask.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => mask.parse().ok(),
    }
}

fn set_target(call: &mut crate::exec::Call, index: u32, start: u32, end: u32) {
    match call
        .candidates
        .iter_mut()
        .find(|(function, _)| *function == index)
    {
        Some((_, candidate)) => (candidate.target, candidate.end) = (Some(start), end),
        None => (call.target, call.end) = (Some(start), end),
    }
}

/// Appends an instruction that does nothing: hints and the like.
pub fn nothing(lowering: &mut Lowering<'_>) {
    let inst = lowering.inst(handler::<ops::control::Nothing>());
    lowering.emit(Class::Other, inst);
}
