//! Who reads a residual, and how: a block keeps the residual to itself and writes, when it has added to it, what the ops that
//! read it next take in.

use super::abi::{RowSet, flags};
use crate::plan::{BufferId, Dim, Epilogue, Norm, Op, Plan, Segment};

/// What is written beside a residual for its next readers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct View {
    /// Whether a product reads it.
    pub is_read: bool,
    /// The norm that products apply.
    pub norm: Option<Norm>,
    /// Whether anybody applies a norm, which needs sums of squares.
    pub is_normed: bool,
    pub columns: u32,
}

/// How an op reads the residual.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub norm: Option<Norm>,
    pub rows: RowSet,
}

impl Reading {
    /// Flags of a phase that copies what is read.
    pub fn flags(self) -> u32 {
        match self.rows {
            RowSet::All => 0,
            RowSet::Output => flags::OUTPUT_ROWS | flags::NARROWED,
            RowSet::Gathered => flags::OUTPUT_ROWS,
        }
    }
}

/// The residual of a segment as ops go by: one value at a time, under several names.
pub(super) struct Residuals<'p> {
    plan: &'p Plan,
    segment: &'p Segment,
    /// The buffer that blocks hold.
    current: Option<BufferId>,
    /// Whether it holds output rows only.
    narrowed: bool,
    /// Other names of the same value for the output rows.
    aliases: Vec<BufferId>,
    /// What its readers apply.
    norm: Option<Norm>,
}

impl<'p> Residuals<'p> {
    pub fn new(plan: &'p Plan, segment: &'p Segment) -> Self {
        Residuals {
            plan,
            segment,
            current: None,
            narrowed: false,
            aliases: Vec::new(),
            norm: None,
        }
    }

    /// Op `op` begins one, which takes the place of the one before.
    pub fn begin(&mut self, op: usize, buffer: BufferId) -> Result<(), String> {
        let names = self.current.iter().chain(&self.aliases);
        let later = &self.segment.ops[op + 1..];
        let is_alive = |name: &BufferId| {
            later.iter().any(|op| reads(op, *name)) || self.segment.outputs.contains(name)
        };
        if let Some(alive) = { names }.find(|name| is_alive(name)) {
            let [old, new] = [*alive, buffer].map(|id| &self.plan.buffer(id).name);
            return Err(format!(
                "it begins the residual `{new}` while `{old}` is still needed, a block holds one"
            ));
        }
        self.aliases.clear();
        self.current = Some(buffer);
        self.narrowed = self.plan.buffer(buffer).rows == Dim::OutputRows;
        Ok(())
    }

    /// Whether what op `op` writes to `buffer` becomes a residual: others add to it, or to its output rows.
    pub fn becomes(&self, op: usize, buffer: BufferId) -> bool {
        let mut names = vec![buffer];
        self.segment.ops[op + 1..].iter().any(|later| {
            match later {
                Op::Gather { input, output } if names.contains(input) => names.push(*output),
                Op::Linear(linear) => {
                    if let Epilogue::Residual { residual, .. } = linear.epilogue {
                        return names.contains(&residual);
                    }
                }
                _ => {}
            }
            false
        })
    }

    pub fn is_current(&self, buffer: BufferId) -> bool {
        self.current == Some(buffer)
    }

    /// Whether the residual holds output rows and is known by that name.
    pub fn is_narrowed(&self, buffer: BufferId) -> bool {
        self.narrowed && self.is_current(buffer)
    }

    /// An op adds to it.
    pub fn write(&mut self, buffer: BufferId) -> Result<(), String> {
        if !self.is_current(buffer) {
            let name = &self.plan.buffer(buffer).name;
            return Err(format!("it adds to `{name}`, which no block holds"));
        }
        self.aliases.clear();
        Ok(())
    }

    /// The output rows of it get a second name.
    pub fn alias(&mut self, _input: BufferId, output: BufferId) {
        self.aliases.push(output);
    }

    /// From op `op` on it is `output`, of the output rows.
    pub fn narrow(&mut self, op: usize, input: BufferId, output: BufferId) -> Result<(), String> {
        if self.narrowed {
            return Err("it gathers what is gathered already".to_owned());
        }
        let later = &self.segment.ops[op + 1..];
        if later.iter().any(|op| reads(op, input)) || self.segment.outputs.contains(&input) {
            let name = &self.plan.buffer(input).name;
            return Err(format!("`{name}` is read after its output rows went on"));
        }
        self.current = Some(output);
        self.narrowed = true;
        Ok(())
    }

    pub fn is_written_after(&self, op: usize, buffer: BufferId) -> bool {
        let mut later = self.segment.ops[op + 1..].iter();
        later.any(|op| writes(op, buffer))
    }

    /// How an op that reads `buffer` finds it; `None` if it is not the residual.
    pub fn reading(&self, buffer: BufferId) -> Option<Reading> {
        let rows = if self.is_current(buffer) {
            if self.narrowed {
                RowSet::Output
            } else {
                RowSet::All
            }
        } else if self.aliases.contains(&buffer) {
            RowSet::Gathered
        } else {
            return None;
        };
        Some(Reading {
            norm: self.norm,
            rows,
        })
    }

    /// What op `op`, which writes the residual `buffer`, has to leave for the readers before the next writer.
    pub fn view_after(&mut self, op: usize, buffer: BufferId) -> Result<View, String> {
        let mut names = vec![buffer];
        let mut norms: Vec<Option<Norm>> = Vec::new();
        let mut is_normed = false;
        for later in &self.segment.ops[op + 1..] {
            match later {
                Op::Gather { input, output } if names.contains(input) => names.push(*output),
                Op::Linear(linear) => {
                    if names.contains(&linear.input) && !norms.contains(&linear.norm) {
                        norms.push(linear.norm);
                    }
                    if let Epilogue::Residual { residual, .. } = linear.epilogue
                        && names.contains(&residual)
                    {
                        break;
                    }
                }
                Op::Copy { input, norm, .. } if names.contains(&input.buffer) => {
                    is_normed |= norm.is_some();
                }
                _ => {}
            }
        }
        if norms.len() > 1 {
            return Err("what it adds up is read under two different norms".to_owned());
        }
        self.norm = norms.first().copied().flatten();
        Ok(View {
            is_read: !norms.is_empty(),
            norm: self.norm,
            is_normed: is_normed || self.norm.is_some(),
            columns: self.plan.buffer(buffer).columns,
        })
    }
}

fn reads(op: &Op, buffer: BufferId) -> bool {
    match op {
        Op::Embed { .. } => false,
        Op::Linear(linear) => linear.input == buffer || writes(op, buffer),
        Op::Attention { q, .. } => *q == buffer,
        Op::Gather { input, .. } => *input == buffer,
        Op::Copy { input, .. } => input.buffer == buffer,
    }
}

fn writes(op: &Op, buffer: BufferId) -> bool {
    matches!(op, Op::Linear(linear) if linear.epilogue.output() == buffer)
}
