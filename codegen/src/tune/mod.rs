//! The sizes of a device program: pure functions of the plan and the architecture, each with its reason.
//!
//! Shared memory of a block holds, in f32 where not said otherwise,
//!
//! ```text
//! weight ring     stages x stage_bytes                 always asked for as much as it holds, also at an edge
//! scratch         8 warps x slots x 64 x rows x 2      slices of activations; K and V during attention; buckets of a choice
//! partial sums    16384 bytes                          8 slices x 16 outputs x rows, exchanged when a tile group ends
//! residual        owned tiles x 16 x rows              the rows of the residual that the block owns
//! control         4096 bytes                           barriers, the call, the phase
//! ```
//!
//! K is always cut in chunks of 512 and slices of 64 and every output is summed over the slices in ascending order,
//! whatever `max_rows` is, so that a choice made here changes speed and never bits.

mod architecture;
mod error;
mod facts;
mod program;
mod reason;

pub use architecture::Architecture;
pub use error::TuneError;
pub use facts::Facts;
pub use program::{CONSUMER_WARPS, ProgramLayout, ROW_LAYOUTS, ROW_TILES, THREADS};
pub use reason::Reason;
