//! TODO
mod arena;
mod error;
mod format;
mod mapping;
mod order;
mod pack;
mod placement;
mod source;
mod tape;
pub mod tile;
mod validate;

pub use arena::ArenaSink;
pub use error::LayoutError;
pub use format::{Group, WeightFormat};
pub use mapping::{Formats, Mapping, Mappings};
pub use order::RowOrder;
pub use placement::{Cut, Placement, PlacementId, Stack, StackPart};
pub use source::{CodedRows, Codes, Coding, SourceMatrix, WeightSource};
pub use tape::{
    Balance, ControlWord, EmbeddingTable, Entry, Layout, Phase, SegmentTapes, Span, TablePlace,
};
pub use validate::StepBytes;

/// Rows of a tile: the m of mma.m16n8k16.
pub const TILE_ROWS: usize = 16;

/// Columns of a slice: what one consumer warp multiplies of a chunk. K is padded to whole slices.
pub const SLICE: usize = 64;

/// Columns of a chunk: a slice for each of eight consumer warps.
pub const CHUNK: usize = 512;

/// Alignment of a span in the arena, one line of L2. The bulk copy itself needs 16.
pub const SPAN_ALIGN: u64 = 128;
