//! From the ops of a segment to phases.

mod linear;

use crate::layout::{Layout, SLICE, TILE_ROWS, TablePlace, WeightFormat};
use crate::plan::{Activation, BufferId, Dim, Dtype, Op, Plan, Segment, SegmentKind, WeightId};
use crate::program::abi::{
    AttentionPhase, ChoosePhase, EmbedPhase, ExportPhase, NONE, NarrowPhase, Phase, PhaseKind,
    TOP_LIMIT, flags,
};
use crate::program::reason::Reason;
use crate::program::spans::SpanTable;
use crate::program::views::{Residuals, View};
use crate::program::{AttentionVariant, Constants, Output, ProgramError, Workspace};
use crate::tune::ProgramLayout;
use stheno_kernels::attention;

/// What all segments add to.
pub(super) struct Lowering<'a> {
    pub plan: &'a Plan,
    pub exponent: &'a dyn Fn(WeightId) -> i32,
    pub layout: &'a Layout,
    pub sizes: &'a ProgramLayout,
    pub workspace: Workspace,
    pub constants: Constants,
    pub stacks: Vec<WeightFormat>,
    pub variants: Vec<AttentionVariant>,
    pub spans: SpanTable,
    pub edges: u32,
    pub outputs: Vec<Output>,
    /// Whether the segment gone through is the draft's.
    pub is_draft: bool,
}

/// Of one segment while its ops are gone through.
struct Walk<'p> {
    segment: &'p Segment,
    index: usize,
    residuals: Residuals<'p>,
    /// Buffers that hold other rows' values under another name: (output, input of the gather).
    gathered: Vec<(BufferId, BufferId)>,
    /// Arrivals at the edge that the last writer has, and its number.
    edge: (u32, u32),
    phases: Vec<Phase>,
    /// Layer, qkv region, columns, and op of the last Qkv epilogue.
    qkv: Option<(QkvSource, BufferId)>,
    /// Region and columns of the logits stored last.
    logits: Option<(u32, u32)>,
}

#[derive(Clone, Copy)]
struct QkvSource {
    offset: u32,
    columns: u32,
    rope: u32,
    pairs: u32,
    q_norm: (u32, f32),
    k_norm: (u32, f32),
}

impl Lowering<'_> {
    /// The phases of a segment.
    pub fn segment(&mut self, index: usize) -> Result<Vec<Phase>, ProgramError> {
        let segment = &self.plan.segments[index];
        self.is_draft = segment.kind.is_draft();
        let mut walk = Walk {
            segment,
            index,
            residuals: Residuals::new(self.plan, segment),
            gathered: Vec::new(),
            edge: (NONE, 0),
            phases: Vec::new(),
            qkv: None,
            logits: None,
        };
        for (op, what) in segment.ops.iter().enumerate() {
            let done = match what {
                Op::Embed { table, output } => self.embed(&mut walk, op, *table, *output),
                Op::Linear(linear) => self.linear(&mut walk, op, linear),
                Op::Attention {
                    q,
                    output,
                    layer,
                    scale,
                    window,
                } => self.attention(&mut walk, op, *q, *output, (*layer, *scale, *window)),
                Op::Gather { input, output } => self.gather(&mut walk, op, *input, *output),
                Op::Copy { .. } => {
                    Err("copies of hidden states for a draft head have no device form yet".into())
                }
            };
            done.map_err(|reason| match reason {
                Reason::Text(reason) => ProgramError::Op {
                    segment: segment.kind,
                    op,
                    reason,
                },
                Reason::Error(error) => error,
            })?;
        }
        self.end(&mut walk)?;
        Ok(walk.phases)
    }

    /// Name of a region that target and draft each have, as their sizes differ.
    fn own(&self, name: &str) -> String {
        let whose = if self.is_draft { "draft " } else { "" };
        format!("{whose}{name}")
    }

    fn row_capacity(&self) -> u64 {
        self.sizes.row_capacity().into()
    }

    fn new_edge(&mut self) -> u32 {
        self.edges += 1;
        self.edges - 1
    }

    /// Buffer of activations in B order.
    fn activations(&mut self, name: &str, columns: u32) -> Result<u32, ProgramError> {
        let columns = u64::from(columns).next_multiple_of(SLICE as u64);
        let bytes = columns * self.row_capacity() * 2;
        self.workspace.place(name, bytes)
    }

    fn view(&mut self, view: &View) -> Result<(u32, u32, u32), ProgramError> {
        if !view.is_read {
            return Ok((NONE, NONE, NONE));
        }
        let offset = self.activations(&self.own("residual view"), view.columns)?;
        let Some(norm) = view.norm else {
            return Ok((offset, NONE, NONE));
        };
        let weight = self.constants.vector(self.plan, norm.weight)?;
        Ok((offset, weight, self.stats(view.columns)?))
    }

    fn stats(&mut self, columns: u32) -> Result<u32, ProgramError> {
        let tiles = u64::from(columns.div_ceil(TILE_ROWS as u32));
        let (name, bytes) = (
            self.own("residual squares"),
            4 * tiles * self.row_capacity(),
        );
        self.workspace.place(name, bytes)
    }

    fn stack(&mut self, format: WeightFormat) -> u32 {
        let known = self.stacks.iter().position(|other| *other == format);
        known.unwrap_or_else(|| {
            self.stacks.push(format);
            self.stacks.len() - 1
        }) as u32
    }

    fn embed(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        table: WeightId,
        output: BufferId,
    ) -> Result<(), Reason> {
        let columns = self.plan.buffer(output).columns;
        walk.residuals.begin(output)?;
        let (view, view_weight, view_stats) = self.view(&walk.residuals.view_after(op, output)?)?;
        let found = self.layout.tables.iter().find(|t| t.weight == table);
        let found = *found.ok_or("its table has no place")?;
        let mut phase = EmbedPhase {
            stack: NONE,
            span: NONE,
            is_f16: 0,
            columns,
            tiles: columns.div_ceil(TILE_ROWS as u32),
            table_tiles: 0,
            exponent: (self.exponent)(table),
            table_stride: 0,
            table: 0,
            view,
            view_weight,
            view_stats,
            unused: 0,
        };
        match found.place {
            TablePlace::Rows {
                format,
                offset,
                stride,
            } => {
                phase.is_f16 = u32::from(format == WeightFormat::F16);
                phase.table = offset;
                phase.table_stride = u32::try_from(stride).map_err(|_| "its rows are too long")?;
            }
            TablePlace::Tiles(id) => {
                let stack = &self.layout.placements[id.index()].stack;
                phase.table_tiles = stack.tiles();
                phase.stack = self.stack(stack.format);
                phase.span = self.spans.column(self.layout, id, false);
            }
        }
        let edge = self.new_edge();
        let mut phase = Phase::new(PhaseKind::Embed, op as u32, &phase);
        phase.edge_out = edge;
        let grid = self.sizes.architecture.sm_count;
        let tiles = columns.div_ceil(TILE_ROWS as u32);
        let mut arrivals = tiles.min(grid);
        if walk.segment.kind == SegmentKind::Target {
            // Rows of the last call that came true are moved by all blocks before anybody attends to them.
            phase.flags |= flags::ALL_ARRIVE;
            arrivals = grid;
        }
        walk.phases.push(phase);
        walk.edge = (edge, arrivals);
        Ok(())
    }

    fn attention(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        q: BufferId,
        output: BufferId,
        (layer, scale, window): (u32, f32, Option<u32>),
    ) -> Result<(), Reason> {
        let Some((source, _)) = walk.qkv.filter(|(_, buffer)| *buffer == q) else {
            return Err("its queries are not those of the projection before it".into());
        };
        let kv = self.plan.kv_of(walk.segment.kind);
        if kv.dtype == Dtype::F32 {
            return Err("it keeps K and V in f32, a device keeps them in bf16 or f16".into());
        }
        if !kv.head_dim.is_multiple_of(16) || kv.head_dim > 256 {
            let head_dim = kv.head_dim;
            return Err(
                format!("heads of {head_dim}, a device takes multiples of 16 up to 256").into(),
            );
        }
        let variant = AttentionVariant::of(&kv);
        let known = self.variants.iter().position(|other| *other == variant);
        let variant = known.unwrap_or_else(|| {
            self.variants.push(variant);
            self.variants.len() - 1
        }) as u32;
        let decl = self.plan.buffer(output);
        let group = decl.columns / (kv.head_dim * kv.num_key_value_heads);
        let (kv_heads, rows) = (kv.num_key_value_heads, self.sizes.row_capacity());
        let (heads, context) = (kv_heads * group, self.plan.context_length);
        let partials = attention::partial_bytes(rows, heads, kv.head_dim, context);
        let counters = attention::counter_bytes(rows, heads, kv_heads);
        let phase = AttentionPhase {
            variant,
            kv: u32::from(walk.segment.kind.is_draft()),
            layer,
            kv_heads: kv.num_key_value_heads,
            group,
            head_dim: kv.head_dim,
            scale,
            window: window.unwrap_or(0),
            qkv: source.offset,
            qkv_columns: source.columns,
            q_norm: source.q_norm.0,
            k_norm: source.k_norm.0,
            q_eps: source.q_norm.1,
            k_eps: source.k_norm.1,
            rope: source.rope,
            rope_pairs: source.pairs,
            output: self.activations(&decl.name, decl.columns)?,
            output_slices: decl.columns.div_ceil(SLICE as u32),
            partials: self
                .workspace
                .place(self.own("attention parts"), partials)?,
            counters: self
                .workspace
                .place(self.own("attention counters"), counters)?,
        };
        let edge = self.new_edge();
        let mut phase = Phase::new(PhaseKind::Attention, op as u32, &phase);
        (phase.edge_in, phase.arrivals_in) = walk.edge;
        phase.edge_out = edge;
        walk.edge = (edge, kv.num_key_value_heads);
        walk.phases.push(phase);
        Ok(())
    }

    fn gather(
        &mut self,
        walk: &mut Walk<'_>,
        op: usize,
        input: BufferId,
        output: BufferId,
    ) -> Result<(), Reason> {
        if !walk.residuals.is_current(input) {
            walk.gathered.push((output, input));
            return Ok(());
        }
        let decl = self.plan.buffer(output);
        let tiles = decl.columns.div_ceil(TILE_ROWS as u32);
        let mut phase = if walk.residuals.is_written_after(op, output) {
            walk.residuals.narrow(op, input, output)?;
            Phase::new(PhaseKind::Narrow, op as u32, &NarrowPhase { tiles })
        } else {
            walk.residuals.alias(input, output);
            if !walk.segment.outputs.contains(&output) {
                return Ok(());
            }
            let bytes = 4 * u64::from(decl.columns) * self.row_capacity();
            let offset = self.workspace.place(&*decl.name, bytes)?;
            self.add_output(output, offset);
            let phase = ExportPhase {
                tiles,
                columns: decl.columns,
                output: offset,
            };
            Phase::new(PhaseKind::Export, op as u32, &phase)
        };
        phase.flags |= flags::OUTPUT_ROWS;
        walk.phases.push(phase);
        Ok(())
    }

    /// Residuals that are outputs, the choice of tokens, and the end of the call.
    fn end(&mut self, walk: &mut Walk<'_>) -> Result<(), ProgramError> {
        let op = walk.segment.ops.len() as u32;
        for &output in &walk.segment.outputs {
            if self.outputs.iter().any(|known| known.buffer == output) {
                continue;
            }
            let decl = self.plan.buffer(output);
            let segment = walk.segment.kind;
            if !walk.residuals.is_current(output) || decl.rows != Dim::OutputRows {
                let reason = format!("output `{}` has no device form yet", decl.name);
                let op = walk.segment.ops.len();
                return Err(ProgramError::Op {
                    segment,
                    op,
                    reason,
                });
            }
        }
        for &output in &walk.segment.outputs {
            let decl = self.plan.buffer(output);
            if !walk.residuals.is_narrowed(output) {
                continue;
            }
            let bytes = 4 * u64::from(decl.columns) * self.row_capacity();
            let offset = self.workspace.place(&*decl.name, bytes)?;
            self.add_output(output, offset);
            let phase = ExportPhase {
                tiles: decl.columns.div_ceil(TILE_ROWS as u32),
                columns: decl.columns,
                output: offset,
            };
            // The residual's rows are the output rows already.
            let mut phase = Phase::new(PhaseKind::Export, op, &phase);
            phase.flags |= flags::OUTPUT_ROWS | flags::NARROWED;
            walk.phases.push(phase);
        }
        let kind = walk.segment.kind;
        let logits = walk.logits;
        let logits = logits.ok_or_else(|| ProgramError::Plan(format!("{kind} has no logits")))?;
        let (logits, vocab_size) = logits;
        self.choose(walk, logits, vocab_size)
    }

    fn choose(
        &mut self,
        walk: &mut Walk<'_>,
        logits: u32,
        vocab_size: u32,
    ) -> Result<(), ProgramError> {
        let op = walk.segment.ops.len() as u32;
        let grid = self.sizes.architecture.sm_count;
        let rows = u64::from(self.sizes.max_rows);
        let best = self.own("best");
        let (top, candidates) = (self.own("top"), self.own("candidates"));
        let mut room = |name: &str, bytes: u64| self.workspace.place(name, bytes * rows);
        let top = room(&top, 8 * TOP_LIMIT as u64)?;
        let candidates = room(&candidates, 8 * u64::from(vocab_size))?;
        // What a draft says is listed as it is, and none of it chosen.
        let (adjusted, choices) = match self.is_draft {
            true => (NONE, NONE),
            false => {
                let adjusted = 16 * u64::from(vocab_size.div_ceil(4));
                (room("adjusted logits", adjusted)?, room("choices", 16)?)
            }
        };
        let choose = ChoosePhase {
            logits,
            vocab_size,
            best: self.workspace.place(best, 0)?,
            choices,
            top,
            candidates,
            adjusted,
        };
        let edge = self.new_edge();
        let mut phase = Phase::new(PhaseKind::Choose, op, &choose);
        (phase.edge_in, phase.arrivals_in) = walk.edge;
        phase.edge_out = edge;
        phase.flags |= flags::OUTPUT_ROWS | flags::ALL_ARRIVE;
        if self.is_draft {
            phase.flags |= flags::LISTS;
        }
        walk.phases.push(phase);
        let mut phase = Phase::new(PhaseKind::Next, op, &choose);
        (phase.edge_in, phase.arrivals_in) = (edge, grid);
        walk.phases.push(phase);
        Ok(())
    }

    fn add_output(&mut self, buffer: BufferId, offset: u32) {
        let decl = self.plan.buffer(buffer);
        if self.outputs.iter().all(|output| output.buffer != buffer) {
            self.outputs.push(Output {
                buffer,
                name: decl.name.clone(),
                offset,
                columns: decl.columns,
            });
        }
    }
}

fn activation_of(activation: Activation) -> u32 {
    match activation {
        Activation::Silu => 1,
        Activation::GeluTanh => 2,
    }
}
