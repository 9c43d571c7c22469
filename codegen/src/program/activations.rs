//! How much of the activations a call reads again in every block.

use super::DeviceProgram;
use super::abi::{LinearPhase, PhaseKind, RowSet, SPAN_ARRIVES, flags};
use crate::layout::{CHUNK, SLICE};
use crate::tune::{CONSUMER_WARPS, ROW_TILES};

/// Bytes of a slice of one row: a warp's 64 columns of a chunk in 16 bits.
const SLICE_BYTES: u32 = 2 * SLICE as u32;

impl DeviceProgram {
    /// Bytes of activations that the linear ops of a call copy out of L2, all blocks together: every block reads the whole
    /// input of an op once if its shared memory holds it, else for each pass over its tiles. `segment` is an index of the plan's; `rows` and `output_rows` are those
    /// of the call. 0 for a segment that is not there.
    pub fn activation_bytes(&self, segment: usize, rows: u32, output_rows: u32) -> u64 {
        let linear = self.phases_of(segment).iter().filter_map(|phase| {
            let idle = phase.flags & flags::OUTPUT_ROWS != 0 && output_rows == 0;
            let is_linear = phase.kind == PhaseKind::Linear as u32 && !idle;
            is_linear.then(|| phase.part::<LinearPhase>())
        });
        linear
            .map(|linear| {
                let over_all = linear.input_rows == RowSet::All as u32;
                let rows = if over_all { rows } else { output_rows };
                let blocks = self.spans.chunks(self.span_count.max(1) as usize);
                let spans = blocks.filter_map(|spans| spans.get(linear.span as usize));
                let of_blocks =
                    spans.map(|span| self.copied(linear.k, span.tiles & !SPAN_ARRIVES, rows));
                of_blocks.sum::<u64>()
            })
            .sum()
    }

    /// Bytes of activations of `rows` rows that a block with `tiles` tiles of an op of `k` columns copies, as `Slices` of
    /// `kernels/slices.cuh`: of few rows those that there are, rounded up to a power of two; and a warp for whose slices there
    /// is room keeps them for all passes.
    pub(super) fn copied(&self, k: u32, tiles: u32, rows: u32) -> u64 {
        let row_tiles = self.sizes.row_tiles(rows.max(1));
        let index = ROW_TILES.iter().position(|tiles| *tiles == row_tiles);
        let index = index.unwrap_or(ROW_TILES.len() - 1);
        let (width, slots) = (self.sizes.groups[index], self.sizes.slots[index]);
        let groups = self.sizes.cut().groups(tiles);
        let passes: usize = groups
            .map(|group| group.len().div_ceil(width.max(1) as usize))
            .sum();
        let whole = 8 * row_tiles * SLICE_BYTES;
        let slice = match row_tiles {
            1 => rows.max(1).next_power_of_two() * SLICE_BYTES,
            _ => whole,
        };
        let (chunk, columns) = (CHUNK as u32, SLICE as u32);
        let of_warps = (0..CONSUMER_WARPS).map(|warp| {
            let own = k / chunk + u32::from(warp * columns < k % chunk);
            match own * slice <= slots * whole {
                true => u64::from(own * slice) * passes.min(1) as u64,
                false => u64::from(own * whole) * passes as u64,
            }
        });
        of_warps.sum()
    }
}
