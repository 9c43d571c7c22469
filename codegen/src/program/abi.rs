//! The structures of `kernels/program.cuh` and, in `control.rs`, of `kernels/control.cuh`, field by field. Every size and the offsets that
//! matter are checked against the compiled headers by `codegen/tests/program/abi.rs`.

mod control;

pub use control::*;

use bytemuck::{Pod, Zeroable};

/// In place of an offset or an index: there is none.
pub const NONE: u32 = u32::MAX;

/// Rows of a call, at most.
pub const ROW_LIMIT: usize = 64;

/// Log-probabilities listed for a token, at most.
pub const TOP_LIMIT: usize = 32;

/// Token ids that end a generation, at most.
pub const STOP_LIMIT: usize = 32;

/// Bit of [`Span::tiles`]: the block arrives at the op's edge.
pub const SPAN_ARRIVES: u32 = 0x8000_0000;

/// Words of a phase's own part.
const PHASE_WORDS: usize = 42;

/// Values of [`Phase::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum PhaseKind {
    Embed,
    Linear,
    Attention,
    Narrow,
    Export,
    Choose,
    Next,
    Import,
    Copy,
}

/// Bits of [`Phase::flags`].
pub mod flags {
    /// Works on the output rows; does nothing but arrive if the call has none.
    pub const OUTPUT_ROWS: u32 = 1;
    /// Every block arrives, also one without work.
    pub const ALL_ARRIVE: u32 = 2;
    /// The residual's rows are the output rows already.
    pub const NARROWED: u32 = 4;
    /// The likeliest tokens are listed, none is chosen.
    pub const LISTS: u32 = 8;
    /// Reads what another call left: of a row that of [`super::Call::sources`].
    pub const SOURCES: u32 = 16;
}

/// Which rows a buffer is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RowSet {
    /// The rows of the call.
    All,
    /// Its output rows.
    Output,
    /// Written for all rows, read for the output rows.
    Gathered,
}

/// Values of [`LinearPhase::epilogue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum EpilogueKind {
    Rows,
    Residual,
    Gated,
    Qkv,
    Begin,
}

/// One matrix of a stack.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Part {
    pub first_tile: u32,
    pub n: u32,
    pub exponent: i32,
    pub bias: u32,
    pub column: u32,
}

/// See `struct LinearPhase`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct LinearPhase {
    pub stack: u32,
    pub span: u32,
    pub k: u32,
    pub input: u32,
    pub input_rows: u32,
    pub stats: u32,
    pub stat_tiles: u32,
    pub eps: f32,
    pub inverse_n: f32,
    pub epilogue: u32,
    pub activation: u32,
    pub output: u32,
    pub output_columns: u32,
    pub view: u32,
    pub view_weight: u32,
    pub view_stats: u32,
    pub view_tiles: u32,
    pub best: u32,
    pub part_count: u32,
    pub parts: [Part; 3],
    pub listed: u32,
}

/// See `struct EmbedPhase`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct EmbedPhase {
    pub stack: u32,
    pub span: u32,
    pub is_f16: u32,
    pub columns: u32,
    pub tiles: u32,
    pub table_tiles: u32,
    pub exponent: i32,
    pub table_stride: u32,
    pub table: u64,
    pub view: u32,
    pub view_weight: u32,
    pub view_stats: u32,
    pub unused: u32,
}

/// See `struct AttentionPhase`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct AttentionPhase {
    pub variant: u32,
    pub kv: u32,
    pub layer: u32,
    pub kv_heads: u32,
    pub group: u32,
    pub head_dim: u32,
    pub scale: f32,
    pub window: u32,
    pub qkv: u32,
    pub qkv_columns: u32,
    pub q_norm: u32,
    pub k_norm: u32,
    pub q_eps: f32,
    pub k_eps: f32,
    pub rope: u32,
    pub rope_pairs: u32,
    pub output: u32,
    pub output_slices: u32,
    pub partials: u32,
    pub counters: u32,
}

/// See `struct NarrowPhase`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct NarrowPhase {
    pub tiles: u32,
}

/// See `struct CopyPhase`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct CopyPhase {
    pub from: u32,
    pub from_columns: u32,
    pub from_column: u32,
    pub to: u32,
    pub to_columns: u32,
    pub to_column: u32,
    pub in_order: u32,
    pub columns: u32,
    pub tiles: u32,
    pub norm: u32,
    pub eps: f32,
    pub inverse_n: f32,
    pub stats: u32,
    pub view: u32,
    pub view_weight: u32,
    pub view_stats: u32,
}

/// See `struct ChoosePhase`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct ChoosePhase {
    pub logits: u32,
    pub vocab_size: u32,
    pub best: u32,
    pub choices: u32,
    pub top: u32,
    pub candidates: u32,
    pub adjusted: u32,
    pub head: u32,
    pub listed: u32,
    pub unused: u32,
}

/// See `struct Phase`.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Phase {
    pub kind: u32,
    pub flags: u32,
    pub edge_in: u32,
    pub arrivals_in: u32,
    pub edge_out: u32,
    pub op: u32,
    pub words: [u32; PHASE_WORDS],
}

impl Phase {
    /// A phase whose own part is `part`, without flags and edges.
    pub fn new<T: Pod>(kind: PhaseKind, op: u32, part: &T) -> Phase {
        let mut words = [0; PHASE_WORDS];
        let bytes = bytemuck::bytes_of(part);
        bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Phase {
            kind: kind as u32,
            flags: 0,
            edge_in: NONE,
            arrivals_in: 0,
            edge_out: NONE,
            op,
            words,
        }
    }

    /// Its own part, which must be of the kind that the phase is.
    pub fn part<T: Pod>(&self) -> T {
        let bytes = bytemuck::cast_slice::<u32, u8>(&self.words);
        bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()])
    }
}

/// See `struct Span`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Span {
    pub offset: u64,
    pub first_tile: u32,
    pub tiles: u32,
}

/// See `struct Segment`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Segment {
    pub first_phase: u32,
    pub phases: u32,
    pub unused: [u32; 2],
}

/// See `struct Stage`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Stage {
    pub offset: u64,
    pub bytes: u32,
    pub phase: u32,
}

/// See `struct TapeRange`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct TapeRange {
    pub first: u32,
    pub count: u32,
    pub before_outputs: u32,
    pub unused: u32,
}

/// See `struct Call`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Call {
    pub segment: u32,
    pub run: u32,
    pub rows: u32,
    pub row_tiles: u32,
    pub output_rows: u32,
    pub output_tiles: u32,
    pub length: u32,
    pub chooses: u32,
    pub expected: u32,
    pub expected_rows: u32,
    pub expected_outputs: u32,
    pub moved: u32,
    pub base: u32,
    pub listed: u32,
    pub unused: [u32; 2],
    pub tokens: [u32; ROW_LIMIT],
    pub positions: [u32; ROW_LIMIT],
    pub parents: [u32; ROW_LIMIT],
    pub outputs: [u32; ROW_LIMIT],
    pub path: [u8; ROW_LIMIT],
    pub sources: [u8; ROW_LIMIT],
}

/// See `struct TimerHead` of `kernels/timers.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct TimerHead {
    pub capacity: u32,
    pub phases: u32,
    pub unused: [u32; 2],
}

/// See `struct TimedCall`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct TimedCall {
    pub segment: u32,
    pub rows: u32,
    pub output_rows: u32,
    pub length: u32,
}

/// See `struct Stamp`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Stamp {
    pub begin: u64,
    pub ready: u64,
    pub end: u64,
    pub stalled: u64,
}

/// See `struct KvPool`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct KvPool {
    pub layer_bytes: u64,
    pub table: u64,
    pub planes: u32,
    pub row_bytes: u32,
}

/// See `struct Path` of `kernels/commit.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Path {
    pub start: u32,
    pub count: u32,
    pub rows: [u8; ROW_LIMIT],
}

/// See `struct Commit` of `kernels/commit.cuh`: the parameter of the kernel of that name.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Commit {
    pub pool: KvPool,
    pub path: Path,
}

/// See `struct Program`: the kernel's one parameter.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Program {
    pub arena: u64,
    pub constants: u64,
    pub workspace: u64,
    pub phases: u64,
    pub segments: u64,
    pub stages: u64,
    pub tapes: u64,
    pub spans: u64,
    pub edges: u64,
    pub control: u64,
    pub history: u64,
    pub followers: u64,
    pub counts: u64,
    pub bias: u64,
    pub mask: u64,
    pub host: u64,
    pub timers: u64,
    pub kv: [KvPool; 2],
    pub span_count: u32,
    pub patience: u32,
    pub phase_begin: u32,
    pub phase_end: u32,
    pub rounds: u32,
    pub home: u32,
    pub target_ids: u64,
    pub logit_scale: f32,
    pub unused: u32,
}
