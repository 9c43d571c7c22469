//! How weights lie in device memory, each streaming multiprocessor's (SM's) in the order in which it reads them.
//!
//! A [`Mapping`] says how a loaded matrix becomes a device matrix, a [`Stack`] puts matrices of one op into one list of
//! row tiles, a [`Placement`] gives the tiles to SMs and to the arena, a [`Layout`] holds all of them, and
//! [`Layout::validate`] proves that every matrix lies whole where its ops need it. Everything is a pure function of plan,
//! formats and [`Cut`].
//!
//! # Fragment order
//!
//! Weights are operand A of `mma.sync.m16n8k16`, tokens operand B. A *tile* is 16 rows of a stack. Lane l = 4 g + t
//! (g = l / 4 in 0..8, t = l % 4) holds of rows g and g + 8, in each block of 32 columns, columns 8 t..8 t + 8: the first
//! four in k16 step 0, the last four in step 1 (the same for B, so a sum over k is only taken in another order).
//!
//! ```text
//! k32 block b   columns 32 b + 0 1 2 3 | 4 5 6 7 | 8 9 .. 15 | 16 .. 23 | 24 .. 31
//!               lane t        t = 0    |  t = 0  |   t = 1   |  t = 2   |  t = 3
//!               k16 step       2 b     | 2 b + 1 |
//!
//! registers of a step, 2 elements each, low half first; j = 8 t + 4 (step % 2):
//!   a0 = (g, j) (g, j+1)    a1 = (g+8, j) (g+8, j+1)    a2 = (g, j+2) (g, j+3)    a3 = (g+8, j+2) (g+8, j+3)
//!   b0 = (j, token g) (j+1, token g)                    b1 = (j+2, token g) (j+3, token g)
//!   c0, c1 = (g; token 2t, 2t+1)                        c2, c3 = (g+8; token 2t, 2t+1)
//! ```
//!
//! An *atom* is what a warp reads with one 16-byte read a lane: 512 bytes, lane l's at 16 l, free of bank conflicts. It
//! covers 16, 32 or 64 columns. With x_i = element (g, j + i) and y_i = element (g + 8, j + i) of a step, a lane's 16
//! bytes are, lowest first (32-bit words separated by `|`):
//!
//! ```text
//! bf16, f16   one step, 16 columns    x0 x1 | y0 y1 | x2 x3 | y2 y3                             (a0 | a1 | a2 | a3)
//! int8        steps 0 and 1           x0 y0 x1 y1 | x2 y2 x3 y3 | the same of step 1            bytes
//! fp8         steps 0 and 1           x0 x1 y0 y1 | x2 x3 y2 y3 | the same of step 1            bytes
//! int4        steps 0, 1, 2, 3        x0 y0 x2 y2 x1 y1 x3 y3 | the same of steps 1, 2 and 3    nibbles
//! ```
//!
//! Activations meet it as `[k32 block][token / 8][lane][16 bytes]` of bf16: one 16-byte read gives a lane b0, b1 of
//! step 0, then of step 1. Activations of columns k..padded k must be 0.
//!
//! # Blocks
//!
//! K is padded to *slices* of 64 ([`SLICE`]) and cut in *chunks* of 512 ([`CHUNK`]), the last as short as it is. Consumer
//! warp s multiplies slice s of every chunk; in a short chunk the warps beyond its slices rest. A *block* is a tile's part
//! of a chunk of kc columns:
//!
//! ```text
//! +-------- 16 kc bits / 8 bytes --------+------- groups of the block, in order --------+
//! | atoms, ascending k                   | group 0 | group 1 | ...                       |
//! | slice s begins at s * 64 * 16 bits/8 |                                              |
//! +--------------------------------------+----------------------------------------------+
//! a group without offset, 32 bytes:   f16 scale(g), scale(g+8)                            at 4 g     one word a lane
//! a group with offset, 64 bytes:      f16 scale(g), scale(g+8), offset(g), offset(g+8)    at 8 g     two words
//! ```
//!
//! A block has kc / 16, kc / 32, ceil(kc / 128) or (whole rows, repeated in each chunk) 1 groups; 16-bit formats have
//! none. Rows and columns that pad have code 0, or scale and offset 0, so they add nothing.
//!
//! # Decode arithmetic
//!
//! An element is worth `scale * code + offset`, scale and offset being f16. f16 and not f32, which would cost int4 in
//! groups of 32 up to a fifth more bytes; not bf16, which would round the scales of nearly all checkpoints. What f16 lacks in
//! range the mapping's exponent has: a whole matrix is scaled by a power of two.
//!
//! Activations are bf16, whatever the weights are: one type of activations for all formats, whose range needs no scaling of
//! rows, and which holds all codes exactly. Weights in f16 are multiplied exactly too, as a sum of two bf16: `hi`, the
//! weight rounded to nearest even, and `lo = w - hi`. An f16 has 11 significant bits, of which `hi` has 8; what is left is a
//! multiple of the last bit and at most four of it, so `lo` is a bf16. `lop3` is `(a & b) | c`; sums and differences are
//! exact:
//!
//! ```text
//! int4, word w of a step, i in 0..4 (register a_i):
//!   (w >> 4 i) & 0x000f000f | 0x43004300 = 128 + q               minus 136 (no offset) or 128 (offset)
//! int8, words w_0, w_1 of a step; a_0, a_2 = v(w_0), v(w_1); a_1, a_3 = v(w_0 >> 8), v(w_1 >> 8):
//!   v(w) = (w & 0x007f007f | 0x43004300) - (w & 0x00800080 | 0x43004300)
//! fp8, words of a step: halves are a_0, a_1 and a_2, a_3; cvt.rn.f16x2.e4m3x2 and by way of f32 where there is one
//!   (sm_89), else, for each byte, bf16 = sign | (byte & 0x7f) << 4, times 2^120
//! f16, a register of two weights: hi = cvt.rn.bf16x2(w), lo = cvt.rn.bf16x2(w - hi), by way of f32
//! ```
//!
//! Sums are in f32. For each warp, output row and token, over the warp's slices in ascending order:
//!
//! ```text
//! bf16:             for each k16 step ascending    acc = mma(w, x, acc)
//! f16:              for each k16 step ascending    acc = mma(hi, x, acc), then acc = mma(lo, x, acc)
//! coded formats:    for each fold ascending        part = 0; for each k16 step of it ascending: part = mma(code, x, part)
//!                                                  acc = fma(scale, part, acc)
//!                   with offset                    acc = fma(offset, sum, acc),   sum like part with code = 1
//! then              y = ((acc_0 + acc_1) + acc_2) ...    over the eight warps, ascending
//!                   y * 2^exponent                       of the row's matrix, exact; then norm, bias and the rest
//! ```
//!
//! A fold is 32 columns for groups of 32 and 64, a slice, for groups of 128 and whole rows (a scale is applied once for
//! each slice that its group touches). Groups of 16 fold over the two steps of a k32 block as well, twice: lanes t < 2
//! hold group 2 b of it and t >= 2 group 2 b + 1, so the first time B is replaced by 0 in lanes t >= 2, the second time in
//! lanes t < 2.
//!
//! # Order of rows
//!
//! [`RowOrder`] says which row of its matrix stands in row r of a tile. Pairs of gate and up stand in rows g and g + 8 of
//! one tile. q, k and v of one format lie one after the other in one stack, gate and up interleave in one; a part of another
//! format begins a stack of its own. Heads keep their order: they rotate in attention, where whole heads are at hand for the
//! norms of q and k that come first.
//!
//! ```text
//! plain           0 .. 15 | 16 .. 31 | ...
//! gate and up     gate 0 .. 7, up 0 .. 7 | gate 8 .. 15, up 8 .. 15 | ...
//! ```
//!
//! # Spans
//!
//! Tiles of an op go to SMs in contiguous ranges: SM i of S starts at tile `i T / S` rounded down (by bytes where stacks
//! of an op differ in format). So an SM owns the same rows of a residual in every op that adds to it. An SM's tiles of one
//! stack are one *span*, contiguous in the arena, in the order of consumption:
//!
//! ```text
//! for group in tiles, `tile_group` at a time (the last may be smaller)
//!     for chunk in 0..chunks
//!         for tile in group
//!             block
//! ```
//!
//! A span is fetched in *stages* of whole blocks that each fit `stage_bytes`; which these are depends on how many tiles a
//! pass takes, see [`crate::program::stages_of`]. The arena holds SM 0's spans in the order in which segments first read
//! them, then SM 1's and so on; spans begin at multiples of 128 bytes. Equal ops of several segments share their spans:
//! prefill reads the target's, a draft the target's head.
//!
//! Embedding rows are gathered from the head's tiles if it is tied. Else a 16-bit table lies row by row, rows padded to
//! 16 bytes, and a coded one in tiles of its own. [`Placement::block`], [`tile::element`] and [`tile::scale`] find an element;
//! a gathered one is `fma(code, scale, offset) * 2^exponent` in f32.
//!
//! # Mapping
//!
//! | loaded | device | loss |
//! |---|---|---|
//! | bf16, f16 | as it is | none |
//! | f32 | bf16 | rounded to nearest even (none if all are bf16 values) |
//! | up to 4 bits within -8..8 of a zero point (Q4_0, symmetric GPTQ, Q3_K) | int4 | scales |
//! | up to 4 bits with minimum (Q4_1, Q4_K, Q2_K) | int4 + offset | scales |
//! | 4 bits, another zero point (AWQ, GPTQ) | int4 + offset = -zero * scale | scales |
//! | 5, 6, 8 bits around a zero point (Q5_0, Q6_K, Q8_0) | int8 | scales |
//! | 5 to 7 bits with minimum (Q5_1, Q5_K) | int8 + offset | scales |
//! | 8 bits with minimum | int8 + offset, codes - 128, offset + 128 * scale | scales |
//! | e4m3 | fp8 | scales |
//! | gate and up of different integer formats | the wider, finer group of both | as each |
//!
//! Codes are always exact. Scales are exact where they are f16 numbers (all single-level GGUF types, f16 and nearly all
//! bf16 scales). If any scale or offset of a matrix is none, all are multiplied by the power of two that brings the largest
//! between 2^14 and 2^15 and rounded (to f32, then to f16, to nearest even): each is within 2^-11 of itself or 2^-39 of the
//! largest. A scale that is the product of an f16 and a small integer (the K-quants) thus moves every element of its group
//! by at most 2^-11 of its `scale * code` and 2^-11 of its offset, some hundredths of a quantum. [`Mapping::lossless`] is measured, never
//! assumed. Groups that repeat their scale become one coarser group.

mod arena;
mod error;
mod format;
mod mapping;
mod order;
mod pack;
mod placement;
mod source;
mod stack;
pub mod tile;
mod validate;
mod weights;

pub use arena::ArenaSink;
pub use error::LayoutError;
pub use format::{Group, WeightFormat};
pub use mapping::{Formats, Mapping, Mappings};
pub use order::RowOrder;
pub use placement::{Cut, Placement, PlacementId};
pub use source::{CodedRows, Codes, Coding, SourceMatrix, WeightSource};
pub use stack::{Stack, StackPart};
pub use validate::StepBytes;
pub use weights::{EmbeddingTable, Layout, Phase, SegmentPlacements, TablePlace};

/// Rows of a tile: the m of mma.m16n8k16.
pub const TILE_ROWS: usize = 16;

/// Columns of a slice: what one consumer warp multiplies of a chunk. K is padded to whole slices.
pub const SLICE: usize = 64;

/// Columns of a chunk: a slice for each of eight consumer warps.
pub const CHUNK: usize = 512;

/// Alignment of a span in the arena, one line of L2. The bulk copy itself needs 16.
pub const SPAN_ALIGN: u64 = 128;
