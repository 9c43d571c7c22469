//! What lowering an instruction needs: operands, constants, the program under construction.

use super::Result;
use super::modifiers::Modifiers;
use super::registers::{Place, Registers, Rows};
use crate::exec::{
    CacheHint, Class, Constant, Extra, Handler, Inst, LaunchValue, Origin, Predicate, Slot, ops,
};
use crate::memory::PARAMETER_BASE;
use crate::num::ScalarType;
use crate::ptx::{Address, Guard, Instruction, Location, Operand, PtxError};
use std::collections::{HashMap, HashSet};

/// What a name that is no register stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Symbol {
    /// A module variable by index.
    Global(u32),
    /// A constant by index of the module variable.
    Constant(u32),
    /// A shared variable by offset.
    Shared(u32),
    /// A local variable by offset.
    Local(u32),
    /// A kernel parameter by offset.
    Parameter(u32),
    /// A `.param` of a device function or of a call: rows of its words, and their number.
    Words(Slot, u32),
    /// A function by index in the module.
    Function(u32),
}

/// The state of lowering one kernel.
pub struct Lowering<'a> {
    /// The PTX text, for errors.
    pub source: &'a str,
    /// Instructions so far.
    pub code: Vec<Inst>,
    /// Where they come from.
    pub origins: Vec<Origin>,
    /// Their extra data.
    pub extras: Vec<Extra>,
    /// Constants so far.
    pub constants: Vec<Constant>,
    known: HashMap<Constant, Slot>,
    /// Rows handed out.
    pub rows: Rows,
    /// Registers of the current function.
    pub registers: Registers,
    /// Symbols in scope, innermost last.
    pub symbols: Vec<HashMap<String, Symbol>>,
    /// Labels of the nested scopes that the current instruction is in, each with a number, innermost last.
    pub label_scopes: Vec<(usize, HashSet<String>)>,
    /// Labels of the current function that are not placed yet: instruction and label.
    pub fixups: Vec<(usize, String)>,
    /// Branch tables: extra data and labels.
    pub tables: Vec<(usize, Vec<String>)>,
    /// Branch target lists and call prototypes by name.
    pub targets: HashMap<String, Vec<String>>,
    /// Calls to functions that are still to be lowered: extra data and function.
    pub calls: Vec<(usize, u32)>,
    /// Whether the current function is the kernel.
    pub in_kernel: bool,
    /// Guard of the current instruction.
    guard: (Predicate, bool),
    /// Line of the current instruction.
    line: u32,
    /// Source location of the current instruction.
    pub location: Option<Location>,
    /// What the current instruction asks of caches.
    pub hint: CacheHint,
    /// The carry flag of extended-precision arithmetic: a row, once used.
    pub carry: Option<Slot>,
    /// Bytes of a vector load that are used, from a pragma.
    pub used_bytes: u32,
    /// Of each instruction the rows that it names, and whether it writes them: where there may be products of warpgroups,
    /// which others must keep away from.
    pub named: Option<Vec<Vec<(Slot, bool)>>>,
    /// Those of the current instruction.
    naming: Vec<(Slot, bool)>,
}

impl<'a> Lowering<'a> {
    /// Nothing lowered yet.
    pub fn new(source: &'a str, registers: Registers) -> Self {
        Self {
            source,
            code: Vec::new(),
            origins: Vec::new(),
            extras: Vec::new(),
            constants: Vec::new(),
            known: HashMap::new(),
            rows: Rows {
                rows: 0,
                predicates: 2,
            },
            registers,
            symbols: vec![HashMap::new()],
            label_scopes: Vec::new(),
            fixups: Vec::new(),
            tables: Vec::new(),
            targets: HashMap::new(),
            calls: Vec::new(),
            in_kernel: true,
            guard: (Predicate::TRUE, false),
            line: 0,
            location: None,
            hint: CacheHint::None,
            carry: None,
            used_bytes: u32::MAX,
            named: source.contains("wgmma.mma_async").then(Vec::new),
            naming: Vec::new(),
        }
    }

    /// A name for a label that no label of another scope has.
    pub fn label(&self, name: &str) -> String {
        let mut scopes = self.label_scopes.iter().rev();
        match scopes.find(|(_, labels)| labels.contains(name)) {
            Some((scope, _)) => format!("{name}@{scope}"),
            None => name.to_string(),
        }
    }

    /// An error at the current instruction.
    pub fn error(&self, message: impl Into<String>) -> PtxError {
        PtxError::new(self.source, self.line, message)
    }

    /// Sets the line that errors and instructions are put down to.
    pub fn at_line(&mut self, line: u32) {
        self.line = line;
    }

    /// Begins an instruction: its line and guard.
    pub fn begin(&mut self, instruction: &Instruction) -> Result<()> {
        self.line = instruction.line;
        self.hint = CacheHint::None;
        self.naming.clear();
        self.guard = match &instruction.guard {
            None => (Predicate::TRUE, false),
            Some(Guard { register, negated }) => {
                match self.registers.place(register, &mut self.rows) {
                    Some(Place::Predicate(predicate)) => (predicate, *negated),
                    _ => {
                        return Err(
                            self.error(format!("the guard {register} is no predicate register"))
                        );
                    }
                }
            }
        };
        Ok(())
    }

    /// Refuses an instruction that has modifiers nobody knows.
    pub fn finish(&self, modifiers: &Modifiers<'_>) -> Result<()> {
        match modifiers.rest() {
            [] => Ok(()),
            [first, ..] => Err(self.unsupported(modifiers, &format!("modifier .{first}"))),
        }
    }

    /// The error of an instruction form that is not supported.
    pub fn unsupported(&self, modifiers: &Modifiers<'_>, what: &str) -> PtxError {
        self.error(format!("{} is not supported ({what})", modifiers.opcode))
    }

    /// An instruction with nothing but its code.
    pub fn inst(&self, handler: Handler) -> Inst {
        Inst {
            handler,
            d: Slot::register(0),
            a: Slot::register(0),
            b: Slot::register(0),
            c: Slot::register(0),
            imm: 0,
            ext: u32::MAX,
            guard: self.guard.0,
            p: Predicate::SINK,
            q: Predicate::TRUE,
            r: Predicate::TRUE,
            negate: self.guard.1,
            guarded: self.guard != (Predicate::TRUE, false),
            flags: 0,
            straight: 0,
        }
    }

    /// Appends an instruction.
    pub fn emit(&mut self, class: Class, mut inst: Inst) {
        inst.specialise();
        self.code.push(inst);
        if let Some(named) = &mut self.named {
            named.push(self.naming.clone());
        }
        self.origins.push(Origin {
            ptx_line: self.line,
            location: self.location,
            class,
            hint: self.hint,
        });
    }

    /// Appends extra data.
    pub fn extra(&mut self, extra: Extra) -> u32 {
        self.extras.push(extra);
        (self.extras.len() - 1) as u32
    }

    /// The slot of a constant.
    pub fn constant(&mut self, constant: Constant) -> Slot {
        if let Some(slot) = self.known.get(&constant) {
            return *slot;
        }
        let rows = if matches!(constant, Constant::Narrow(_) | Constant::Launch(_)) {
            1
        } else {
            2
        };
        let slot = Slot::constant(self.constants.len() as u32, rows);
        self.constants.push(constant);
        if rows == 2 {
            self.constants.push(Constant::Rest);
        }
        self.known.insert(constant, slot);
        slot
    }

    /// The slot of a 32-bit constant.
    pub fn narrow(&mut self, value: u32) -> Slot {
        self.constant(Constant::Narrow(value))
    }

    /// The slot of a 64-bit constant.
    pub fn wide(&mut self, value: u64) -> Slot {
        self.constant(Constant::Wide(value))
    }

    /// The symbol called `name`.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols
            .iter()
            .rev()
            .find_map(|scope| scope.get(name))
            .copied()
    }

    /// The place of the register called `name`.
    pub fn register(&mut self, name: &str) -> Option<Place> {
        let place = self.registers.place(name, &mut self.rows);
        if let (Some(Place::Narrow(slot) | Place::Wide(slot)), true) = (place, self.named.is_some())
        {
            self.naming.push((slot, false));
        }
        place
    }

    /// Says that the current instruction writes a register.
    pub fn writes(&mut self, slot: Slot) {
        if self.named.is_some() {
            self.naming.push((slot, true));
        }
    }

    /// Operand `index` of an instruction.
    pub fn operand<'i>(&self, instruction: &'i Instruction, index: usize) -> Result<&'i Operand> {
        instruction
            .operands
            .get(index)
            .ok_or_else(|| self.error(format!("{} has too few operands", instruction.opcode)))
    }

    /// Refuses an instruction that has not `count` operands.
    pub fn expect_operands(&self, instruction: &Instruction, count: usize) -> Result<()> {
        if instruction.operands.len() == count {
            return Ok(());
        }
        let found = instruction.operands.len();
        Err(self.error(format!(
            "{} takes {count} operands, found {found}",
            instruction.opcode
        )))
    }

    /// A source of at most 32 bits.
    pub fn source32(&mut self, operand: &Operand) -> Result<Slot> {
        match operand {
            Operand::Integer(value) => Ok(self.narrow(*value as u32)),
            Operand::Float(bits) => Ok(self.narrow(*bits)),
            Operand::Double(bits) => {
                let value = f64::from_bits(*bits) as f32;
                Ok(self.narrow(value.to_bits()))
            }
            Operand::Name(name) => match self.register(name) {
                Some(Place::Narrow(slot)) => Ok(slot),
                Some(_) => Err(self.error(format!("{name} is not a register of 32 bits or less"))),
                None => self.symbol_value(name, 0, false),
            },
            Operand::Offset(name, offset) => self.symbol_value(name, *offset, false),
            _ => Err(self.error("expected a register or a constant of 32 bits or less")),
        }
    }

    /// A source of 64 bits.
    pub fn source64(&mut self, operand: &Operand) -> Result<Slot> {
        match operand {
            Operand::Integer(value) => Ok(self.wide(*value)),
            Operand::Double(bits) => Ok(self.wide(*bits)),
            Operand::Float(bits) => Ok(self.wide(f64::from(f32::from_bits(*bits)).to_bits())),
            Operand::Name(name) => match self.register(name) {
                Some(Place::Wide(slot)) => Ok(slot),
                Some(_) => Err(self.error(format!("{name} is not a 64-bit register"))),
                None => self.symbol_value(name, 0, true),
            },
            Operand::Offset(name, offset) => self.symbol_value(name, *offset, true),
            _ => Err(self.error("expected a 64-bit register or a constant")),
        }
    }

    /// A source of the width of `ty`.
    pub fn source(&mut self, operand: &Operand, ty: ScalarType) -> Result<Slot> {
        if ty.bytes() == 8 {
            self.source64(operand)
        } else {
            self.source32(operand)
        }
    }

    /// A destination of at most 32 bits; `_` gets a row of its own.
    pub fn destination32(&mut self, operand: &Operand) -> Result<Slot> {
        match operand {
            Operand::Sink => Ok(self.rows.narrow(1)),
            Operand::Name(name) => match self.register(name) {
                Some(Place::Narrow(slot)) => {
                    self.writes(slot);
                    Ok(slot)
                }
                _ => Err(self.error(format!("{name} is not a register of 32 bits or less"))),
            },
            _ => Err(self.error("expected a register to write to")),
        }
    }

    /// A destination of 64 bits.
    pub fn destination64(&mut self, operand: &Operand) -> Result<Slot> {
        match operand {
            Operand::Sink => Ok(self.rows.narrow(2)),
            Operand::Name(name) => match self.register(name) {
                Some(Place::Wide(slot)) => {
                    self.writes(slot);
                    Ok(slot)
                }
                _ => Err(self.error(format!("{name} is not a 64-bit register"))),
            },
            _ => Err(self.error("expected a 64-bit register to write to")),
        }
    }

    /// A destination of the width of `ty`.
    pub fn destination(&mut self, operand: &Operand, ty: ScalarType) -> Result<Slot> {
        if ty.bytes() == 8 {
            self.destination64(operand)
        } else {
            self.destination32(operand)
        }
    }

    /// A predicate that is written; `_` is where nobody looks.
    pub fn destination_predicate(&mut self, operand: &Operand) -> Result<Predicate> {
        match operand {
            Operand::Sink => Ok(Predicate::SINK),
            Operand::Name(name) => match self.register(name) {
                Some(Place::Predicate(predicate)) => Ok(predicate),
                _ => Err(self.error(format!("{name} is not a predicate register"))),
            },
            _ => Err(self.error("expected a predicate register")),
        }
    }

    /// A predicate that is read, and whether it is negated.
    pub fn source_predicate(&mut self, operand: &Operand) -> Result<(Predicate, bool)> {
        match operand {
            Operand::Not(inner) => self
                .source_predicate(inner)
                .map(|(predicate, negated)| (predicate, !negated)),
            Operand::Integer(value) => Ok((Predicate::TRUE, *value == 0)),
            other => Ok((self.destination_predicate(other)?, false)),
        }
    }

    /// The value of a symbol: its address in its own space.
    fn symbol_value(&mut self, name: &str, offset: i64, wide: bool) -> Result<Slot> {
        let value = match self.symbol(name) {
            None => match self.launch_value(name) {
                Some(Constant::Narrow(value)) if wide => return Ok(self.wide(u64::from(value))),
                Some(_) if wide => {
                    return Err(self.error(format!("{name} does not have 64 bits")));
                }
                Some(value) => return Ok(self.constant(value)),
                None => {
                    return Err(self.error(format!("{name} is neither a register nor a variable")));
                }
            },
            Some(Symbol::Global(index) | Symbol::Constant(index)) => {
                if !wide {
                    return Err(
                        self.error(format!("the address of {name} needs a 64-bit register"))
                    );
                }
                return Ok(self.constant(Constant::Symbol(index, offset)));
            }
            Some(Symbol::Function(index)) => return Ok(self.constant(Constant::Function(index))),
            Some(Symbol::Shared(at) | Symbol::Local(at)) => u64::from(at),
            Some(Symbol::Parameter(at)) => PARAMETER_BASE + u64::from(at),
            Some(Symbol::Words(..)) => {
                return Err(self.error(format!(
                    "the address of the parameter {name} of a device function is not supported"
                )));
            }
        };
        let value = value.wrapping_add(offset as u64);
        Ok(if wide {
            self.wide(value)
        } else {
            self.narrow(value as u32)
        })
    }

    /// Special registers that are the same for the whole launch.
    fn launch_value(&self, name: &str) -> Option<Constant> {
        let value = match name.strip_prefix('%').unwrap_or(name) {
            "ntid.x" => LaunchValue::BlockX,
            "ntid.y" => LaunchValue::BlockY,
            "ntid.z" => LaunchValue::BlockZ,
            "nctaid.x" => LaunchValue::GridX,
            "nctaid.y" => LaunchValue::GridY,
            "nctaid.z" => LaunchValue::GridZ,
            "nclusterid.x" => LaunchValue::ClustersX,
            "nclusterid.y" => LaunchValue::ClustersY,
            "nclusterid.z" => LaunchValue::ClustersZ,
            "cluster_nctaid.x" => LaunchValue::ClusterX,
            "cluster_nctaid.y" => LaunchValue::ClusterY,
            "cluster_nctaid.z" => LaunchValue::ClusterZ,
            "cluster_nctarank" => LaunchValue::ClusterBlocks,
            "dynamic_smem_size" => LaunchValue::DynamicShared,
            "total_smem_size" | "aggr_smem_size" => LaunchValue::TotalShared,
            "nsmid" => LaunchValue::MultiProcessors,
            "nwarpid" => LaunchValue::Warps,
            "WARP_SZ" => return Some(Constant::Narrow(32)),
            "gridid" => return Some(Constant::Narrow(0)),
            // Where cooperative groups find the words of the grid's barrier.
            "envreg1" => LaunchValue::WorkspaceHigh,
            "envreg2" => LaunchValue::WorkspaceLow,
            // Other environment registers are set by drivers that know them; none is imitated.
            name if name
                .strip_prefix("envreg")
                .and_then(|n| n.parse::<u32>().ok())
                .is_some_and(|n| n < 32) =>
            {
                return Some(Constant::Narrow(0));
            }
            _ => return None,
        };
        Some(Constant::Launch(value))
    }

    /// The base of an address and what is added to it. The base is 64 bits wide where the flag says so.
    pub fn address(&mut self, address: &Address) -> Result<(Slot, i64, bool)> {
        if !address.coordinates.is_empty() {
            return Err(self.error("only copies of tensors have coordinates"));
        }
        let Some(base) = &address.base else {
            return Ok((self.wide(address.offset as u64), 0, true));
        };
        match self.register(base) {
            Some(Place::Wide(slot)) => Ok((slot, address.offset, true)),
            Some(Place::Narrow(slot)) => Ok((slot, address.offset, false)),
            Some(Place::Predicate(_)) => {
                Err(self.error(format!("{base} is a predicate, not an address")))
            }
            None => Ok((self.symbol_value(base, address.offset, true)?, 0, true)),
        }
    }

    /// A special register that differs between lanes or with time.
    pub fn special(&self, name: &str) -> Option<ops::special::Special> {
        ops::special::Special::from_name(name.strip_prefix('%')?)
    }
}
