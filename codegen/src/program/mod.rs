//! From a plan to what a device runs: phases, tables, the memory that they name, and the CUDA source. A pure function of the
//! plan, the layout of its weights, and the sizes that [`crate::tune`] chose; nothing here touches a driver.
//!
//! # Phases
//!
//! A segment's ops become phases, which every block runs in order, each over its own tiles (`kernels/decode.cuh`):
//!
//! ```text
//! embed                      residual of the block's rows and channels from the table
//! linear, one a stack        products, then logits, residual +=, gate * up, or raw q, k and v
//! attention                  rotation, append to the KV cache, softmax, merge
//! gather of the residual     narrow: the block keeps the output rows; or export, for an output of the call
//! gather of something else   nothing: its reader takes the rows of the input that it wants
//! copy                       export, from the residual to rows or to what a product reads; import, from rows to the residual;
//!                            copy, from rows to rows or to what a product reads
//! (end of the segment)       choose: a token for each output row, or a draft's best ones; next: block 0 publishes the next call
//! ```
//!
//! Logits of a draft that are listed are not stored: blocks keep what lists are made of (`kernels/best.cuh`).
//!
//! A block holds the residual of its channels in shared memory, in f32; one at a time, but a segment may begin several one after
//! the other: by an embedding, by products, by rows. Whoever adds to it leaves beside it what the next op
//! reads: `bf16(residual * norm weight)` in the order of fragments, and the sum of squares of each tile; the norm's scale is
//! applied to the products. So a residual is read under one norm until it is written again, and a plan in which it is not
//! has no device form.
//!
//! # Rows
//!
//! What crosses blocks whole lies in f32, `[row][columns]`: features of the target, what a draft hands to the next of its steps,
//! projections that are joined before a product. Inputs of a segment are such rows, and of row r a call takes row
//! [`abi::Call::sources`]`[r]`. A buffer of the plan that one segment hands out and another takes is one region; so is what a
//! segment takes from a call of itself ([`Input`] and [`Output`] of one offset).
//!
//! # Edges
//!
//! Each op has one counter. Blocks that have tiles of the op arrive at it once a run; readers wait for all of them. That every
//! wait is answered, that no buffer is written while another block may still read what was in it, and that the tapes hold what
//! the products look for, is shown by
//! [`DeviceProgram::validate`], which every program goes through before it is handed out.

pub mod abi;
mod accesses;
mod activations;
mod constants;
mod display;
mod error;
mod lower;
mod reason;
mod source;
mod spans;
mod stage;
mod tapes;
mod traffic;
mod validate;
mod views;
mod workspace;

pub use constants::{Constant, Constants};
pub use error::ProgramError;
pub use source::{AttentionVariant, COMMIT_KERNEL, KERNEL};
pub use stage::{Stage, StageKind};
pub use tapes::stages_of;
pub use traffic::{CallShape, Traffic};
pub use workspace::{Region, Workspace};

use crate::layout::{CHUNK, Layout, WeightFormat};
use crate::plan::{BufferId, Dim, Plan, SegmentKind, WeightId};
use crate::tune::ProgramLayout;
use lower::Lowering;
use source::Ingredients;

/// A device program.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceProgram {
    /// The sizes it is compiled with.
    pub sizes: ProgramLayout,
    /// What is compiled.
    pub source: Source,
    /// All phases; [`abi::Segment`] says which are a segment's.
    pub phases: Vec<abi::Phase>,
    /// One for each segment of the plan, in its order.
    pub segments: Vec<abi::Segment>,
    /// Pieces of the arena in the order in which blocks fetch them.
    pub stages: Vec<abi::Stage>,
    /// `[segment][kind of tape][block]`: ranges of `stages`.
    pub tapes: Vec<abi::TapeRange>,
    /// `[block][span_count]`
    pub spans: Vec<abi::Span>,
    /// Spans of a block.
    pub span_count: u32,
    /// Counters of edges.
    pub edges: u32,
    /// Vectors and tables.
    pub constants: Constants,
    /// Buffers.
    pub workspace: Workspace,
    /// Where the residual rests in stepped mode: region of the workspace, `[block][residual_bytes]`.
    pub home: u32,
    /// What calls take from others.
    pub inputs: Vec<Input>,
    /// What calls leave for the host and for others.
    pub outputs: Vec<Output>,
    /// Where the draft lists its guesses, if there is one.
    pub lists: Option<Lists>,
    /// Forms of weights that it multiplies with.
    pub stacks: Vec<WeightFormat>,
}

/// CUDA to compile, with `stheno_kernels::HEADERS` and its own header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file that is compiled.
    pub program: String,
    /// Contents of `sizes.cuh`.
    pub sizes: String,
}

impl Source {
    /// The headers by the names that they are included by.
    pub fn headers(&self) -> Vec<(String, String)> {
        let headers = stheno_kernels::HEADERS.iter();
        let headers = headers.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        headers
            .chain([("sizes.cuh".to_owned(), self.sizes.clone())])
            .collect()
    }
}

/// An input of a segment: f32 `[row][columns]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Index of the segment in the plan.
    pub segment: usize,
    /// The plan's buffer.
    pub buffer: BufferId,
    /// Its name.
    pub name: String,
    /// Workspace: its first byte.
    pub offset: u32,
    /// Columns.
    pub columns: u32,
}

/// An output of a call: f32 `[row][columns]`, of all rows or of those with outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The plan's buffer.
    pub buffer: BufferId,
    /// Its name.
    pub name: String,
    /// Which rows.
    pub rows: Dim,
    /// Workspace: its first byte.
    pub offset: u32,
    /// Columns.
    pub columns: u32,
}

/// What calls of a draft list, by the target's token ids. Of several heads, as Medusa's, each has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lists {
    /// Workspace: [`abi::TopLogprob`] `[head][rows]` `[`[`abi::TOP_LIMIT`]`]`, the first [`abi::Generation::topk`] of which are
    /// written, most likely first.
    pub top: u32,
    /// Heads.
    pub heads: u32,
    /// Output rows that there is room for.
    pub rows: u32,
}

impl DeviceProgram {
    /// Builds and validates the program of a plan. `exponent` is that of a matrix: what it is multiplied with is scaled by
    /// 2^exponent (see [`crate::layout::Mapping`]).
    ///
    /// # Errors
    /// An op has no device form, a table is too large, or (a fault of this crate) the program contradicts itself.
    pub fn new(
        plan: &Plan,
        layout: &Layout,
        sizes: &ProgramLayout,
        exponent: &dyn Fn(WeightId) -> i32,
    ) -> Result<Self, ProgramError> {
        let find = |kind| {
            let index = plan.segments.iter().position(|s| s.kind == kind);
            index.map_or(abi::NONE, |index| index as u32)
        };
        let kinds = [
            SegmentKind::Prefill,
            SegmentKind::Target,
            SegmentKind::DraftPrefill,
            SegmentKind::Extend,
            SegmentKind::Draft,
        ];
        for kind in &kinds[..2] {
            if plan.segment(*kind).is_none() {
                return Err(ProgramError::Plan(format!("it has no {kind} segment")));
            }
        }
        let mut lowering = Lowering {
            plan,
            exponent,
            layout,
            sizes,
            workspace: Workspace::default(),
            constants: Constants::default(),
            stacks: Vec::new(),
            variants: Vec::new(),
            spans: spans::SpanTable::default(),
            edges: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            lists: None,
            is_draft: false,
        };
        let (mut phases, mut segments) = (Vec::new(), Vec::new());
        for index in 0..plan.segments.len() {
            let own = lowering.segment(index)?;
            segments.push(abi::Segment {
                first_phase: phases.len() as u32,
                phases: own.len() as u32,
                unused: [0; 2],
            });
            phases.extend(own);
        }
        let blocks = u64::from(sizes.architecture.sm_count);
        let home = u64::from(sizes.residual_bytes) * blocks;
        let home = lowering.workspace.place("residual at rest", home)?;
        let of_kind = |kind| phases.iter().filter(move |phase| phase.kind == kind as u32);
        let linears =
            || of_kind(abi::PhaseKind::Linear).map(|phase| phase.part::<abi::LinearPhase>());
        let embeds = of_kind(abi::PhaseKind::Embed).map(|phase| phase.part::<abi::EmbedPhase>());
        let ingredients = Ingredients {
            layout: sizes,
            stacks: &lowering.stacks,
            multiplied: linears().map(|linear| linear.stack).collect(),
            embedded: embeds.map(|embed| embed.stack).collect(),
            variants: &lowering.variants,
            segments: kinds.map(find),
            looks_up: plan.looks_up,
            phases: phases
                .iter()
                .fold(0, |kinds, phase| kinds | 1 << phase.kind),
            epilogues: linears().fold(0, |pairs, linear| {
                pairs | 1 << (linear.epilogue * 3 + linear.activation)
            }),
            has_short_chunks: linears().any(|linear| !(linear.k as usize).is_multiple_of(CHUNK)),
            vocab_size: plan.vocab_size,
            draft_vocab_size: plan.vocab_size_of(SegmentKind::Draft),
        };
        let source = Source {
            program: source::program(&ingredients),
            sizes: source::sizes(&ingredients),
        };
        let tapes = tapes::build(&phases, &segments, &lowering.spans, layout, sizes)?;
        let program = DeviceProgram {
            sizes: sizes.clone(),
            stages: tapes.stages,
            tapes: tapes.ranges,
            source,
            phases,
            segments,
            span_count: lowering.spans.len(),
            spans: lowering.spans.build(layout),
            edges: lowering.edges,
            constants: lowering.constants,
            workspace: lowering.workspace,
            home,
            inputs: lowering.inputs,
            outputs: lowering.outputs,
            lists: lowering.lists,
            stacks: lowering.stacks,
        };
        program.validate()?;
        Ok(program)
    }

    /// Phases of a segment.
    pub fn phases_of(&self, segment: usize) -> &[abi::Phase] {
        let Some(segment) = self.segments.get(segment) else {
            return &[];
        };
        let first = segment.first_phase as usize;
        &self.phases[first..first + segment.phases as usize]
    }

    /// Bytes of weights that a phase streams, padding included; 0 for what is no linear op.
    pub fn weight_bytes(&self, phase: &abi::Phase) -> u64 {
        if phase.kind != abi::PhaseKind::Linear as u32 {
            return 0;
        }
        let linear: abi::LinearPhase = phase.part();
        let Some(format) = self.stacks.get(linear.stack as usize) else {
            return 0;
        };
        let k = linear.k as usize;
        let tail = match k % CHUNK {
            0 => 0,
            tail => format.block_bytes(tail),
        };
        let tile = k / CHUNK * format.block_bytes(CHUNK) + tail;
        let own = self.spans.chunks(self.span_count.max(1) as usize);
        let own = own.filter_map(|spans| spans.get(linear.span as usize));
        let tiles: u64 = own
            .map(|span| u64::from(span.tiles & !abi::SPAN_ARRIVES))
            .sum();
        tiles * tile as u64
    }

    /// The output of that name.
    pub fn output(&self, name: &str) -> Option<&Output> {
        self.outputs.iter().find(|output| output.name == name)
    }
}
