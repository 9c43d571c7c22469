//! From the ops of a segment to phases.

mod choose;
mod copy;
mod linear;

pub(super) use linear::listed_bytes;

use crate::layout::{Layout, SLICE, TILE_ROWS, TablePlace, WeightFormat};
use crate::plan::{
    Activation, BufferId, Columns, Dtype, Epilogue, Op, Plan, Segment, SegmentKind, WeightId,
};
use crate::program::abi::{AttentionPhase, EmbedPhase, NONE, NarrowPhase, Phase, PhaseKind, flags};
use crate::program::reason::Reason;
use crate::program::spans::SpanTable;
use crate::program::views::{Residuals, View};
use crate::program::{AttentionVariant, Constants, Input, Lists, Output, ProgramError, Workspace};
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
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    pub lists: Option<Lists>,
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
    /// Logits in the order in which they are stored.
    logits: Vec<Logits>,
    /// Buffers whose rows lie in the workspace.
    rows: Vec<(BufferId, Rows)>,
    /// Those that are there for products as well.
    in_order: Vec<BufferId>,
}

/// Rows of a buffer, f32 `[row][columns]`.
#[derive(Debug, Clone, Copy)]
struct Rows {
    offset: u32,
    /// Of a phase that copies them.
    flags: u32,
}

#[derive(Debug, Clone, Copy)]
struct Logits {
    offset: u32,
    columns: u32,
    best: u32,
    listed: u32,
}

impl Walk<'_> {
    fn rows_of(&self, buffer: BufferId) -> Option<Rows> {
        let found = self.rows.iter().find(|(other, _)| *other == buffer)?;
        Some(found.1)
    }

    fn add_rows(&mut self, buffer: BufferId, rows: Rows) {
        if self.rows_of(buffer).is_none() {
            self.rows.push((buffer, rows));
        }
    }

    /// Whether products are stored there.
    fn is_stored(&self, buffer: BufferId) -> bool {
        self.segment.ops.iter().any(|op| stores(op) == Some(buffer))
    }
}

/// The buffer that an op stores products to.
fn stores(op: &Op) -> Option<BufferId> {
    match op {
        Op::Linear(linear) => match linear.epilogue {
            Epilogue::Store { output } => Some(output),
            _ => None,
        },
        _ => None,
    }
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
            logits: Vec::new(),
            rows: Vec::new(),
            in_order: Vec::new(),
        };
        self.take_inputs(&mut walk)?;
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
                Op::Copy {
                    input,
                    norm,
                    output,
                } => self.copy(&mut walk, op, *input, *norm, *output),
            };
            done.map_err(|reason| reason.at(segment.kind, op))?;
        }
        self.end(&mut walk)?;
        Ok(walk.phases)
    }

    /// Gives the inputs of a segment their places.
    fn take_inputs(&mut self, walk: &mut Walk<'_>) -> Result<(), ProgramError> {
        for &input in &walk.segment.inputs {
            let rows = self.rows_region(walk, input);
            let mut rows = rows.map_err(|reason| reason.at(walk.segment.kind, 0))?;
            rows.flags |= flags::SOURCES;
            walk.add_rows(input, rows);
            let decl = self.plan.buffer(input);
            self.inputs.push(Input {
                segment: walk.index,
                buffer: input,
                name: decl.name.clone(),
                offset: rows.offset,
                columns: decl.columns,
            });
        }
        Ok(())
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
        let stats = match view.is_normed {
            true => self.stats(view.columns)?,
            false => NONE,
        };
        if !view.is_read {
            return Ok((NONE, NONE, stats));
        }
        let offset = self.activations(&self.own("residual view"), view.columns)?;
        let weight = match view.norm {
            Some(norm) => self.constants.vector(self.plan, norm.weight)?,
            None => NONE,
        };
        Ok((offset, weight, stats))
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
        walk.residuals.begin(op, output)?;
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
        if group > attention::GROUP_LIMIT {
            let most = attention::GROUP_LIMIT;
            return Err(format!("{group} query heads to a KV head, a device takes {most}").into());
        }
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
        if let Some(mut rows) = walk.rows_of(input) {
            if walk.segment.outputs.contains(&output) {
                return Err("it hands out some rows of a buffer as they are".into());
            }
            rows.flags |= flags::OUTPUT_ROWS;
            walk.add_rows(output, rows);
            return Ok(());
        }
        if !walk.residuals.is_current(input) {
            walk.gathered.push((output, input));
            return Ok(());
        }
        let decl = self.plan.buffer(output);
        let tiles = decl.columns.div_ceil(TILE_ROWS as u32);
        if walk.residuals.is_written_after(op, output) {
            walk.residuals.narrow(op, input, output)?;
            let mut phase = Phase::new(PhaseKind::Narrow, op as u32, &NarrowPhase { tiles });
            phase.flags |= flags::OUTPUT_ROWS;
            walk.phases.push(phase);
            return Ok(());
        }
        walk.residuals.alias(input, output);
        if walk.segment.outputs.contains(&output) {
            self.export(walk, op, output)?;
        }
        Ok(())
    }

    /// Copies the residual to where the host, or another segment, finds it.
    fn export(&mut self, walk: &mut Walk<'_>, op: usize, output: BufferId) -> Result<(), Reason> {
        let reading = walk.residuals.reading(output);
        let own = reading.ok_or("it hands out what no block holds")?.flags();
        let columns = self.plan.buffer(output).columns;
        let all = Columns {
            buffer: output,
            start: 0,
            count: columns,
        };
        let mut copy = self.blank(all, all)?;
        copy.to = self.rows_region(walk, output)?.offset;
        self.add_output(output, copy.to);
        self.push_copy(walk, op, PhaseKind::Export, own, &copy, false);
        Ok(())
    }

    /// Residuals that are outputs, the choice of tokens, and the end of the call.
    fn end(&mut self, walk: &mut Walk<'_>) -> Result<(), ProgramError> {
        let op = walk.segment.ops.len();
        let kind = walk.segment.kind;
        for &output in &walk.segment.outputs {
            if walk.residuals.is_narrowed(output) {
                let exported = self.export(walk, op, output);
                exported.map_err(|reason| reason.at(kind, op))?;
            } else if self.outputs.iter().all(|known| known.buffer != output) {
                let name = &self.plan.buffer(output).name;
                let reason = format!("output `{name}` has no device form yet");
                return Err(Reason::Text(reason).at(kind, op));
            }
        }
        self.choose(walk)
    }

    fn add_output(&mut self, buffer: BufferId, offset: u32) {
        let decl = self.plan.buffer(buffer);
        if self.outputs.iter().all(|output| output.buffer != buffer) {
            self.outputs.push(Output {
                buffer,
                name: decl.name.clone(),
                rows: decl.rows,
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
