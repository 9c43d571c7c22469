//! Where shared variables lie.

use crate::exec::SharedVariable;
use crate::ptx::{Function, Module, Space, Statement, Variable};

/// Bytes between two static variables, so that an index that runs over meets nobody's data. A multiple of 128, so that
/// banks stay as they would be without it.
const GAP: u32 = 128;

/// Largest shared memory that any block has; a bound for hostile declarations.
const MAX_BYTES: u64 = 1 << 20;

/// Shared variables of a kernel and of the functions of its module.
#[derive(Debug, Default)]
pub struct Layout {
    variables: Vec<SharedVariable>,
    end: u32,
    declared: u32,
    dynamic_align: u32,
}

impl Layout {
    /// Places the shared variables of `module` that `kernel` can see; the error is the line and name of one that is
    /// too large.
    pub fn new(module: &Module, kernel: &Function) -> Result<Self, (u32, String)> {
        let mut layout = Self::default();
        let functions = module.functions.iter().filter(|function| !function.entry);
        let bodies = functions
            .chain([kernel])
            .filter_map(|function| function.body.as_ref());
        let local = bodies.flatten().filter_map(|statement| match statement {
            Statement::Variable(variable) => Some(variable),
            _ => None,
        });
        for variable in module
            .variables
            .iter()
            .chain(local)
            .filter(|variable| variable.space == Space::Shared)
        {
            layout
                .place(variable)
                .ok_or_else(|| (variable.line, variable.name.clone()))?;
        }
        Ok(layout)
    }

    fn place(&mut self, variable: &Variable) -> Option<()> {
        let align = variable.align.max(1);
        if variable.bytes == 0 {
            self.dynamic_align = self.dynamic_align.max(align);
            return Some(());
        }
        let gap = if self.variables.is_empty() { 0 } else { GAP };
        let offset = (self.end + gap).next_multiple_of(align);
        let end = u64::from(offset) + variable.bytes;
        if end > MAX_BYTES {
            return None;
        }
        let bytes = variable.bytes as u32;
        (self.end, self.declared) = (
            offset + bytes,
            self.declared.next_multiple_of(align) + bytes,
        );
        self.variables.push(SharedVariable {
            name: variable.name.clone(),
            offset,
            bytes,
        });
        Some(())
    }

    /// The offset of the variable called `name`; arrays without a size are dynamic shared memory.
    pub fn offset(&self, name: &str) -> u32 {
        let variable = self.variables.iter().find(|variable| variable.name == name);
        variable.map_or(self.end(), |variable| variable.offset)
    }

    /// Bytes with gaps, up to where dynamic shared memory starts.
    pub fn end(&self) -> u32 {
        let gap = if self.variables.is_empty() { 0 } else { GAP };
        (self.end + gap).next_multiple_of(self.dynamic_align.clamp(16, 1024))
    }

    /// Bytes as a GPU would count them.
    pub fn declared(&self) -> u32 {
        self.declared
    }

    /// The variables.
    pub fn into_variables(self) -> Vec<SharedVariable> {
        self.variables
    }
}
