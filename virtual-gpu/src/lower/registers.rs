//! Registers of a function and the rows that they get.
//!
//! Code from a compiler names thousands of registers, most of which live for a few instructions. A register all of
//! whose uses are in one basic block, the first of them an unconditional write, gets a row only for that stretch, so
//! that a warp's registers stay in cache. All others keep their row.

use crate::exec::{Predicate, Slot};
use crate::num::ScalarType;
use crate::ptx::{Address, Operand, Space, Statement};
use std::collections::HashMap;

/// Where a register is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// 32 bits or less.
    Narrow(Slot),
    /// 64 bits.
    Wide(Slot),
    /// A predicate.
    Predicate(Predicate),
}

/// What kind of row a register needs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Narrow,
    Wide,
    Predicate,
}

impl Kind {
    fn of(ty: ScalarType) -> Option<Self> {
        match (ty, ty.bytes()) {
            (ScalarType::Pred, _) => Some(Self::Predicate),
            (_, 16) => None,
            (_, 8) => Some(Self::Wide),
            _ => Some(Self::Narrow),
        }
    }
}

/// A register, by the order of declarations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id(u32);

#[derive(Clone, Debug)]
struct Scope {
    single: HashMap<String, (Id, Kind)>,
    /// Prefix of numbered registers: first register, how many.
    numbered: Vec<(String, Id, u32, Kind)>,
}

/// Names of registers in scope.
struct Names {
    scopes: Vec<Scope>,
    next: u32,
}

impl Names {
    fn new() -> Self {
        Self {
            scopes: vec![Scope {
                single: HashMap::new(),
                numbered: Vec::new(),
            }],
            next: 0,
        }
    }

    fn step(&mut self, statement: &Statement) -> Result<(), String> {
        match statement {
            Statement::Open => self.scopes.push(Scope {
                single: HashMap::new(),
                numbered: Vec::new(),
            }),
            Statement::Close => {
                self.scopes.pop();
            }
            Statement::Variable(variable) if variable.space == Space::Reg => {
                let kind = Kind::of(variable.ty).ok_or("128-bit registers are not supported")?;
                let scope = self
                    .scopes
                    .last_mut()
                    .ok_or("a register outside of any scope")?;
                let id = Id(self.next);
                match variable.numbered {
                    Some(count) => {
                        scope
                            .numbered
                            .push((variable.name.clone(), id, count, kind));
                        self.next += count;
                    }
                    None => {
                        scope.single.insert(variable.name.clone(), (id, kind));
                        self.next += 1;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<(Id, Kind)> {
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let number = name[digits..].parse::<u32>().ok();
        self.scopes.iter().rev().find_map(|scope| {
            if let Some(found) = scope.single.get(name) {
                return Some(*found);
            }
            let (_, first, _, kind) = scope.numbered.iter().find(|(prefix, _, count, _)| {
                *prefix == name[..digits] && number.is_some_and(|n| n < *count)
            })?;
            Some((Id(first.0 + number?), *kind))
        })
    }
}

/// The stretch of statements in which a register that may share its row is alive.
#[derive(Clone, Copy, Debug)]
struct Life {
    block: u32,
    last: u32,
    shares: bool,
}

/// Registers of one function, walked in step with its statements.
pub struct Registers {
    names: Names,
    lives: HashMap<Id, Life>,
    places: HashMap<Id, Place>,
    /// Registers to give back after a statement.
    ending: HashMap<u32, Vec<Id>>,
    free_narrow: Vec<Slot>,
    free_wide: Vec<Slot>,
    free_predicates: Vec<Predicate>,
    statement: u32,
}

/// Rows handed out so far in a program.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Next row.
    pub rows: u32,
    /// Next predicate.
    pub predicates: u32,
}

impl Registers {
    /// Looks through a function's statements.
    pub fn new(statements: &[Statement]) -> Result<Self, String> {
        let lives = lives(statements)?;
        let mut ending: HashMap<u32, Vec<Id>> = HashMap::new();
        for (id, life) in &lives {
            if life.shares {
                ending.entry(life.last).or_default().push(*id);
            }
        }
        // The order in which rows are given back decides who gets them: keep it the same in every run.
        ending.values_mut().for_each(|ids| ids.sort());
        Ok(Self {
            names: Names::new(),
            lives,
            places: HashMap::new(),
            ending,
            free_narrow: Vec::new(),
            free_wide: Vec::new(),
            free_predicates: Vec::new(),
            statement: 0,
        })
    }

    /// The next statement comes: scopes and declarations.
    pub fn enter(&mut self, statement: &Statement) -> Result<(), String> {
        self.names.step(statement)
    }

    /// The statement has been lowered: rows of registers that end with it are free.
    pub fn leave(&mut self) {
        for id in self.ending.remove(&self.statement).unwrap_or_default() {
            match self.places.remove(&id) {
                Some(Place::Narrow(slot)) => self.free_narrow.push(slot),
                Some(Place::Wide(slot)) => self.free_wide.push(slot),
                Some(Place::Predicate(predicate)) => self.free_predicates.push(predicate),
                None => {}
            }
        }
        self.statement += 1;
    }

    /// The place of the register called `name`.
    pub fn place(&mut self, name: &str, rows: &mut Rows) -> Option<Place> {
        let (id, kind) = self.names.find(name)?;
        if let Some(place) = self.places.get(&id) {
            return Some(*place);
        }
        let shares = self.lives.get(&id).is_some_and(|life| life.shares);
        let reused = match kind {
            _ if !shares => None,
            Kind::Narrow => self.free_narrow.pop().map(Place::Narrow),
            Kind::Wide => self.free_wide.pop().map(Place::Wide),
            Kind::Predicate => self.free_predicates.pop().map(Place::Predicate),
        };
        let place = reused.unwrap_or_else(|| rows.fresh(kind));
        self.places.insert(id, place);
        Some(place)
    }
}

impl Rows {
    fn fresh(&mut self, kind: Kind) -> Place {
        match kind {
            Kind::Narrow => Place::Narrow(self.narrow(1)),
            Kind::Wide => Place::Wide(self.narrow(2)),
            Kind::Predicate => {
                self.predicates += 1;
                Place::Predicate(Predicate((self.predicates - 1) as u16))
            }
        }
    }

    /// `count` neighbouring rows.
    pub fn narrow(&mut self, count: u32) -> Slot {
        self.rows += count;
        Slot::register(self.rows - count)
    }
}

fn lives(statements: &[Statement]) -> Result<HashMap<Id, Life>, String> {
    let mut names = Names::new();
    let mut lives: HashMap<Id, Life> = HashMap::new();
    let mut block = 0;
    for (index, statement) in statements.iter().enumerate() {
        names.step(statement)?;
        let instruction = match statement {
            Statement::Label(_) => {
                block += 1;
                continue;
            }
            Statement::Instruction(instruction) => instruction,
            _ => continue,
        };
        let mut used = Vec::new();
        if let Some(guard) = &instruction.guard {
            used.push(guard.register.as_str());
        }
        let mut written = Vec::new();
        for (position, operand) in instruction.operands.iter().enumerate() {
            let into = if position == 0 && instruction.guard.is_none() {
                &mut written
            } else {
                &mut used
            };
            names_in(operand, into);
        }
        let base = instruction.opcode.split('.').next().unwrap_or_default();
        for (name, write) in used
            .iter()
            .map(|name| (name, false))
            .chain(written.iter().map(|name| (name, true)))
        {
            let Some((id, _)) = names.find(name) else {
                continue;
            };
            let life = lives.entry(id).or_insert(Life {
                block,
                last: 0,
                shares: write,
            });
            // Products of warpgroups use their registers after the instruction too.
            life.shares &= life.block == block && base != "wgmma";
            life.last = index as u32;
        }
        if matches!(base, "bra" | "brx" | "ret" | "exit" | "call") {
            block += 1;
        }
    }
    Ok(lives)
}

fn names_in<'a>(operand: &'a Operand, names: &mut Vec<&'a str>) {
    match operand {
        Operand::Name(name) | Operand::Offset(name, _) => names.push(name),
        Operand::Address(Address {
            base, coordinates, ..
        }) => {
            names.extend(base.as_deref());
            coordinates
                .iter()
                .for_each(|operand| names_in(operand, names));
        }
        Operand::Vector(items) | Operand::List(items) => {
            items.iter().for_each(|operand| names_in(operand, names))
        }
        Operand::Pair(a, b) => {
            names_in(a, names);
            names_in(b, names);
        }
        Operand::Not(inner) | Operand::Negative(inner) => names_in(inner, names),
        Operand::Integer(_) | Operand::Float(_) | Operand::Double(_) | Operand::Sink => {}
    }
}
