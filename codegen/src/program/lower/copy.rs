//! Rows that cross blocks whole, and how they get into a residual or before a product.

use super::{Lowering, Rows, Walk};
use crate::layout::TILE_ROWS;
use crate::plan::{BufferId, Columns, Dim, Norm, Op};
use crate::program::abi::{CopyPhase, NONE, Phase, PhaseKind, flags};
use crate::program::accesses::depends;
use crate::program::reason::Reason;

/// What a copy reads.
enum Source {
    /// The residual that blocks hold, with the phase's flags.
    Residual(u32),
    Rows(Rows),
}

impl Lowering<'_> {
    pub(super) fn copy(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        input: Columns,
        norm: Option<Norm>,
        output: Columns,
    ) -> Result<(), Reason> {
        let source = self.source(walk, input)?;
        let to = self.plan.buffer(output.buffer).clone();
        let mut copy = self.blank(input, output)?;
        if let Some(norm) = norm {
            copy.norm = self.constants.vector(self.plan, norm.weight)?;
            (copy.eps, copy.inverse_n) = (norm.eps, 1.0 / input.count as f32);
        }
        let (kind, mut own) = match source {
            Source::Residual(own) => {
                if norm.is_some() {
                    copy.stats = self.stats(input.count)?;
                }
                (PhaseKind::Export, own)
            }
            Source::Rows(rows) => {
                copy.from = rows.offset;
                (PhaseKind::Copy, rows.flags)
            }
        };
        if to.rows == Dim::OutputRows {
            own |= flags::OUTPUT_ROWS;
        }
        if walk.residuals.becomes(op, output.buffer) {
            if kind != PhaseKind::Copy {
                return Err("it makes a residual of another one".into());
            }
            if (output.start, output.count) != (0, to.columns) {
                return Err("it copies to a part of a residual".into());
            }
            walk.residuals.begin(op, output.buffer)?;
            let view = walk.residuals.view_after(op, output.buffer)?;
            (copy.view, copy.view_weight, copy.view_stats) = self.view(&view)?;
            let is_read = (copy.view, copy.view_stats) != (NONE, NONE);
            self.push_copy(walk, op, PhaseKind::Import, own, &copy, is_read);
            return Ok(());
        }
        let later = &walk.segment.ops[op + 1..];
        let is_multiplied = later
            .iter()
            .any(|op| matches!(op, Op::Linear(linear) if linear.input == output.buffer));
        let is_copied = later.iter().any(|op| match op {
            Op::Copy { input, .. } => input.buffer == output.buffer,
            Op::Gather { input, .. } => *input == output.buffer,
            _ => false,
        });
        let is_output = walk.segment.outputs.contains(&output.buffer);
        if is_output || is_copied {
            let rows = self.rows_region(walk, output.buffer)?;
            copy.to = rows.offset;
            self.push_copy(walk, op, kind, own, &copy, is_copied);
            walk.add_rows(output.buffer, rows);
        }
        if is_output {
            self.add_output(output.buffer, copy.to);
        }
        if is_multiplied {
            copy.to = self.in_order(&to.name, to.columns)?;
            copy.in_order = 1;
            self.push_copy(walk, op, kind, own, &copy, true);
            walk.in_order.push(output.buffer);
        }
        Ok(())
    }

    /// Copies rows that a product reads into the order in which it does, if that is not done yet.
    pub(super) fn order_rows(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        buffer: BufferId,
    ) -> Result<(), Reason> {
        let Some(rows) = walk.rows_of(buffer) else {
            return Ok(());
        };
        if walk.in_order.contains(&buffer) {
            return Ok(());
        }
        let decl = self.plan.buffer(buffer).clone();
        let all = Columns {
            buffer,
            start: 0,
            count: decl.columns,
        };
        let mut copy = self.blank(all, all)?;
        copy.from = rows.offset;
        copy.to = self.in_order(&decl.name, decl.columns)?;
        copy.in_order = 1;
        self.push_copy(walk, op, PhaseKind::Copy, rows.flags, &copy, true);
        walk.in_order.push(buffer);
        Ok(())
    }

    /// Region of a buffer in B order whose rows may have one as well.
    pub(super) fn in_order(&mut self, name: &str, columns: u32) -> Result<u32, Reason> {
        Ok(self.activations(&format!("{name} for products"), columns)?)
    }

    /// The region of a buffer's rows, f32 `[row][columns]`, for one who writes them in this segment.
    pub(super) fn rows_region(
        &mut self,
        walk: &Walk<'_>,
        buffer: BufferId,
    ) -> Result<Rows, Reason> {
        let decl = self.plan.buffer(self.home_of(walk, buffer));
        let bytes = 4 * u64::from(decl.columns) * self.row_capacity();
        let offset = self.workspace.place(&*decl.name, bytes)?;
        let own = match self.plan.buffer(buffer).rows {
            Dim::Rows => 0,
            Dim::OutputRows => flags::OUTPUT_ROWS | flags::NARROWED,
        };
        Ok(Rows { offset, flags: own })
    }

    /// An input that no segment hands out is what the segment itself handed out in a call before: it lies where the output
    /// of its width does, products apart.
    fn home_of(&self, walk: &Walk<'_>, buffer: BufferId) -> BufferId {
        let handed_out = |segment: &crate::plan::Segment| segment.outputs.contains(&buffer);
        if !walk.segment.inputs.contains(&buffer) || self.plan.segments.iter().any(handed_out) {
            return buffer;
        }
        let columns = self.plan.buffer(buffer).columns;
        let mut outputs = walk.segment.outputs.iter().copied();
        let found = outputs.find(|output| {
            let decl = self.plan.buffer(*output);
            let is_same = decl.rows == Dim::OutputRows && decl.columns == columns;
            is_same && !walk.is_stored(*output)
        });
        found.unwrap_or(buffer)
    }

    fn source(&self, walk: &Walk<'_>, input: Columns) -> Result<Source, Reason> {
        let decl = self.plan.buffer(input.buffer);
        if let Some(reading) = walk.residuals.reading(input.buffer) {
            if (input.start, input.count) != (0, decl.columns) {
                return Err("it copies a part of a residual".into());
            }
            return Ok(Source::Residual(reading.flags()));
        }
        let rows = walk.rows_of(input.buffer);
        let rows = rows.ok_or("it copies what is neither a residual nor rows")?;
        Ok(Source::Rows(rows))
    }

    /// A copy of those columns, from and to nowhere yet.
    pub(super) fn blank(&self, input: Columns, output: Columns) -> Result<CopyPhase, Reason> {
        let columns = |buffer: BufferId| self.plan.buffer(buffer).columns;
        let copy = CopyPhase {
            from: NONE,
            from_columns: columns(input.buffer),
            from_column: input.start,
            to: NONE,
            to_columns: columns(output.buffer),
            to_column: output.start,
            in_order: 0,
            columns: input.count,
            tiles: input.count.div_ceil(TILE_ROWS as u32),
            norm: NONE,
            eps: 0.0,
            inverse_n: 0.0,
            stats: NONE,
            view: NONE,
            view_weight: NONE,
            view_stats: NONE,
        };
        let numbers = [
            copy.from_columns,
            copy.from_column,
            copy.to_columns,
            copy.to_column,
            copy.columns,
        ];
        match numbers.iter().find(|n| !n.is_multiple_of(4)) {
            Some(n) => Err(format!("it copies by {n} columns, a device by multiples of 4").into()),
            None => Ok(copy),
        }
    }

    /// Adds a phase that copies. If others of the segment read what it writes, every block arrives at its edge.
    pub(super) fn push_copy(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        kind: PhaseKind,
        own: u32,
        copy: &CopyPhase,
        is_read: bool,
    ) {
        let mut phase = Phase::new(kind, op as u32, copy);
        phase.flags = own;
        if depends(&phase, &walk.phases) {
            (phase.edge_in, phase.arrivals_in) = walk.edge;
        }
        if is_read {
            phase.flags |= flags::ALL_ARRIVE;
            phase.edge_out = self.new_edge();
            walk.edge = (phase.edge_out, self.sizes.architecture.sm_count);
        }
        walk.phases.push(phase);
    }
}
