//! From a linear op to phases, one for each stack of its weights.

use super::{Logits, Lowering, QkvSource, Walk, activation_of};
use crate::layout::TILE_ROWS;
use crate::plan::{BufferId, Dim, Dtype, Epilogue, Linear, Norm, WeightId, WeightShape};
use crate::program::ProgramError;
use crate::program::abi::{
    EpilogueKind, LinearPhase, NONE, Part, Phase, PhaseKind, ROW_LIMIT, RowSet, flags,
};
use crate::program::reason::Reason;
use crate::tune::ProgramLayout;

impl Lowering<'_> {
    pub(super) fn linear(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        linear: &Linear,
    ) -> Result<(), Reason> {
        let phases = &self.layout.segments[walk.index].phases;
        let placed = phases.iter().find(|phase| phase.op == op);
        let placements = placed
            .ok_or("its weights have no place")?
            .placements
            .clone();
        self.order_rows(walk, op, linear.input)?;
        let (input, input_rows) = self.input(walk, linear)?;
        let over_output = self.is_over_outputs(linear.epilogue.output());
        let (stats, stat_tiles, eps, inverse_n) = match linear.norm {
            None => (NONE, 0, 0.0, 0.0),
            Some(norm) => {
                let columns = self.plan.buffer(linear.input).columns;
                let tiles = columns.div_ceil(TILE_ROWS as u32);
                (self.stats(columns)?, tiles, norm.eps, 1.0 / columns as f32)
            }
        };
        let mut phase = LinearPhase {
            stack: 0,
            span: 0,
            k: 0,
            input,
            input_rows: input_rows as u32,
            stats,
            stat_tiles,
            eps,
            inverse_n,
            epilogue: 0,
            activation: 0,
            output: NONE,
            output_columns: 0,
            view: NONE,
            view_weight: NONE,
            view_stats: NONE,
            view_tiles: 0,
            best: NONE,
            part_count: 0,
            parts: [Part {
                first_tile: 0,
                n: 0,
                exponent: 0,
                bias: NONE,
                column: 0,
            }; 3],
            listed: NONE,
        };
        let all_arrive = self.epilogue(walk, op, linear, &mut phase)?;
        let edge = self.new_edge();
        let arrivals = self.spans.arrivals(self.layout, &placements);
        let last = placements.len() - 1;
        for (i, id) in placements.iter().enumerate() {
            let stack = &self.layout.placements[id.index()].stack;
            let mut part = phase;
            part.stack = self.stack(stack.format);
            part.k = stack.padded_k() as u32;
            part.span = match i == last {
                true => self.spans.arriving(self.layout, &placements),
                false => self.spans.column(self.layout, *id, false),
            };
            if stack.parts.len() > part.parts.len() {
                return Err("it has more than three matrices".into());
            }
            part.part_count = stack.parts.len() as u32;
            for (slot, matrix) in part.parts.iter_mut().zip(&stack.parts) {
                let weights = linear.parts.iter().map(|part| part.weight);
                let place = weights.clone().position(|weight| weight == matrix.weight);
                let place = place.ok_or("its stack holds another op's matrix")?;
                let before = linear.parts[..place].iter();
                let column = match linear.epilogue {
                    Epilogue::Qkv(_) => before.map(|part| self.rows_of(part.weight)).sum(),
                    _ => 0,
                };
                let bias = match linear.parts[place].bias {
                    Some(bias) => self.constants.vector(self.plan, bias)?,
                    None => NONE,
                };
                *slot = Part {
                    first_tile: matrix.first_tile,
                    n: matrix.n,
                    exponent: (self.exponent)(matrix.weight),
                    bias,
                    column,
                };
            }
            let mut phase = Phase::new(PhaseKind::Linear, op as u32, &part);
            if over_output {
                phase.flags |= flags::OUTPUT_ROWS;
            }
            // Every stack waits: a block may have tiles of the last one only.
            (phase.edge_in, phase.arrivals_in) = walk.edge;
            if i == last {
                phase.edge_out = edge;
                if all_arrive {
                    phase.flags |= flags::ALL_ARRIVE;
                }
            }
            walk.phases.push(phase);
        }
        let grid = self.sizes.architecture.sm_count;
        walk.edge = (edge, if all_arrive { grid } else { arrivals });
        Ok(())
    }

    fn rows_of(&self, weight: WeightId) -> u32 {
        match self.plan.weight(weight).shape {
            WeightShape::Matrix { n, .. } | WeightShape::Vector { n } => n,
        }
    }

    fn is_over_outputs(&self, buffer: BufferId) -> bool {
        self.plan.buffer(buffer).rows == Dim::OutputRows
    }

    /// Where a linear op reads, and by which rows.
    fn input(&mut self, walk: &Walk<'_>, linear: &Linear) -> Result<(u32, RowSet), Reason> {
        let decl = self.plan.buffer(linear.input);
        if let Some(view) = walk.residuals.reading(linear.input) {
            let offset = self.activations(&self.own("residual view"), decl.columns)?;
            if view.norm != linear.norm {
                return Err("its norm is not the one its input was prepared for".into());
            }
            return Ok((offset, view.rows));
        }
        if linear.norm.is_some() {
            return Err("its norm is over something else than a residual".into());
        }
        if walk.in_order.contains(&linear.input) {
            let rows = match decl.rows {
                Dim::Rows => RowSet::All,
                Dim::OutputRows => RowSet::Output,
            };
            return Ok((self.in_order(&decl.name, decl.columns)?, rows));
        }
        let alias = walk.gathered.iter().find(|(to, _)| *to == linear.input);
        if let Some((_, from)) = alias {
            let name = self.plan.buffer(*from).name.clone();
            let offset = self.activations(&name, decl.columns)?;
            return Ok((offset, RowSet::Gathered));
        }
        let rows = match decl.rows {
            Dim::Rows => RowSet::All,
            Dim::OutputRows => RowSet::Output,
        };
        Ok((self.activations(&decl.name, decl.columns)?, rows))
    }

    /// What an op that writes a residual leaves for its readers.
    fn leave_view(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        residual: BufferId,
        phase: &mut LinearPhase,
    ) -> Result<(), Reason> {
        let view = walk.residuals.view_after(op, residual)?;
        phase.view_tiles = view.columns.div_ceil(TILE_ROWS as u32);
        (phase.view, phase.view_weight, phase.view_stats) = self.view(&view)?;
        Ok(())
    }

    /// Fills in what becomes of the products; says whether every block has to arrive.
    fn epilogue(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        linear: &Linear,
        phase: &mut LinearPhase,
    ) -> Result<bool, Reason> {
        match &linear.epilogue {
            Epilogue::Store { output } if walk.residuals.becomes(op, *output) => {
                walk.residuals.begin(op, *output)?;
                phase.epilogue = EpilogueKind::Begin as u32;
                self.leave_view(walk, op, *output, phase)?;
                Ok(false)
            }
            Epilogue::Store { output } => {
                let decl = self.plan.buffer(*output);
                phase.epilogue = EpilogueKind::Rows as u32;
                phase.output_columns = decl.columns;
                let rows = self.rows_region(walk, *output)?;
                phase.output = rows.offset;
                if !walk.segment.outputs.contains(output) {
                    walk.add_rows(*output, rows);
                    return Ok(false);
                }
                if decl.dtype != Dtype::F32 {
                    return Err("it stores what is neither logits nor for another op".into());
                }
                self.add_output(*output, phase.output);
                let grid = u64::from(self.sizes.architecture.sm_count);
                let bytes = 8 * grid * self.row_capacity();
                let (best, listed) = match walk.logits.len() {
                    0 => (self.own("best"), self.own("listed")),
                    head => (
                        self.own(&format!("best {head}")),
                        self.own(&format!("listed {head}")),
                    ),
                };
                phase.best = self.workspace.place(best, bytes)?;
                if self.is_draft {
                    let bytes = listed_bytes(self.sizes, self.row_capacity(), decl.columns);
                    phase.listed = self.workspace.place(listed, bytes)?;
                }
                walk.logits.push(Logits {
                    offset: phase.output,
                    columns: decl.columns,
                    best: phase.best,
                    listed: phase.listed,
                });
                Ok(true)
            }
            Epilogue::Residual {
                residual,
                activation,
            } => {
                walk.residuals.write(*residual)?;
                phase.epilogue = EpilogueKind::Residual as u32;
                phase.activation = activation.map_or(0, activation_of);
                self.leave_view(walk, op, *residual, phase)?;
                Ok(false)
            }
            Epilogue::Gated { activation, output } => {
                let decl = self.plan.buffer(*output);
                phase.epilogue = EpilogueKind::Gated as u32;
                phase.activation = activation_of(*activation);
                phase.output = self.activations(&decl.name, decl.columns)?;
                Ok(false)
            }
            Epilogue::Qkv(qkv) => {
                let columns = linear
                    .parts
                    .iter()
                    .map(|part| self.rows_of(part.weight))
                    .sum();
                let bytes = 4 * u64::from(columns) * self.row_capacity();
                phase.epilogue = EpilogueKind::Qkv as u32;
                phase.output = self.workspace.place(self.own("qkv"), bytes)?;
                phase.output_columns = columns;
                let mut norm = |norm: Option<Norm>| -> Result<(u32, f32), ProgramError> {
                    match norm {
                        Some(norm) => {
                            Ok((self.constants.vector(self.plan, norm.weight)?, norm.eps))
                        }
                        None => Ok((NONE, 0.0)),
                    }
                };
                let source = QkvSource {
                    offset: phase.output,
                    columns,
                    q_norm: norm(qkv.q_norm)?,
                    k_norm: norm(qkv.k_norm)?,
                    rope: self.constants.rope(self.plan, qkv.rope)?,
                    pairs: self.plan.rope(qkv.rope).inv_freq.len() as u32,
                };
                walk.qkv = Some((source, qkv.q));
                Ok(false)
            }
        }
    }
}

/// What is left of a draft's logits that are listed, see `kernels/tile_sums.cuh`: keys of every block, and a sum for each tile of
/// each row.
pub fn listed_bytes(sizes: &ProgramLayout, rows: u64, columns: u32) -> u64 {
    let blocks = u64::from(sizes.architecture.sm_count);
    8 * (blocks * ROW_LIMIT as u64 + rows * u64::from(columns).div_ceil(TILE_ROWS as u64))
}
