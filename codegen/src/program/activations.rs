//! How much of the activations a call reads again in every block.

use super::DeviceProgram;
use super::abi::{LinearPhase, PhaseKind, RowSet, SPAN_ARRIVES, flags};
use crate::layout::SLICE;
use crate::tune::ROW_TILES;

/// Bytes of a slice of one row tile: 64 columns of 8 rows in 16 bits.
const SLICE_BYTES: u64 = 8 * SLICE as u64 * 2;

impl DeviceProgram {
    /// Bytes of activations that the linear ops of a call copy out of L2, all blocks together: every block reads the whole
    /// input of an op for each pass over its tiles. `segment` is an index of the plan's; `rows` and `output_rows` are those
    /// of the call, whole tiles of 8 being read. 0 for a segment that is not there.
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
                let row_tiles = rows.max(1).div_ceil(8).next_power_of_two();
                let blocks = self.spans.chunks(self.span_count.max(1) as usize);
                let spans = blocks.filter_map(|spans| spans.get(linear.span as usize));
                let passes: u64 = spans
                    .map(|span| self.passes(span.tiles & !SPAN_ARRIVES, row_tiles))
                    .sum();
                let slices = u64::from(linear.k) / SLICE as u64;
                passes * slices * u64::from(row_tiles) * SLICE_BYTES
            })
            .sum()
    }

    /// Passes of a block over its tiles, each with all activations.
    fn passes(&self, tiles: u32, row_tiles: u32) -> u64 {
        let index = ROW_TILES.iter().position(|tiles| *tiles == row_tiles);
        let group = self.sizes.tile_group.max(1);
        let width = index.map_or(1, |index| self.sizes.groups[index]);
        let width = width.clamp(1, group);
        u64::from(tiles / group * group.div_ceil(width) + (tiles % group).div_ceil(width))
    }
}
