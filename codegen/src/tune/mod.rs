//! The sizes of a device program: pure functions of the plan and the architecture, each with its reason.
//!
//! Shared memory of a block holds, in f32 where not said otherwise,
//!
//! ```text
//! weight ring         stages x stage_bytes                  what producers keep full, never empty at an edge
//! activation ring     1 or 2 x max_rows x 512 x 2 bytes     a chunk of K for all rows; K and V during attention
//! partial sums        8 slices x 16 outputs x <= 32 rows    exchanged tile by tile when a tile group ends
//! residual            owned tiles x 16 x max_rows           the rows of the residual that the block owns
//! control             4096 bytes                            barriers, row table, ancestor masks, round state
//! ```
//!
//! K is always cut in chunks of 512 and slices of 64 and every output is summed over the slices in ascending order,
//! whatever `max_rows` is, so that a choice made here changes speed and never bits. The accumulators of a consumer
//! warp are `4 x (max_rows / 8)` registers a tile; beside them live one fragment of activations and, for formats with
//! scales, the sums of the current group, of the same size each.

mod architecture;
mod error;
mod facts;
mod program;
mod reason;

pub use architecture::Architecture;
pub use error::TuneError;
pub use facts::Facts;
pub use program::{AttentionSplit, CONSUMER_WARPS, ProgramLayout, ROW_LAYOUTS, THREADS};
pub use reason::Reason;
