use super::DeviceProgram;
use super::abi::{
    AttentionPhase, ChoosePhase, CopyPhase, EmbedPhase, EpilogueKind, LinearPhase, NONE, Phase,
    PhaseKind, RowSet, SPAN_ARRIVES, flags,
};
use super::lower::listed_bytes;
use crate::layout::{CHUNK, TILE_ROWS};
use std::ops::{Add, AddAssign};

/// What the bytes of a call depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallShape {
    /// Rows of the call.
    pub rows: u32,
    /// Of these, rows with outputs.
    pub output_rows: u32,
    /// Positions before the call.
    pub length: u32,
}

/// Bytes that all blocks together move in a phase, by where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Weights, scales and padding, each read once.
    pub weights: u64,
    /// Rows of the embedding table.
    pub table: u64,
    /// K and V that rows see, each read once, and those that are appended.
    pub kv: u64,
    /// Buffers of the call, read (again by every block and every pass over its tiles) and written. They stay in L2.
    pub activations: u64,
}

impl Traffic {
    /// What comes from memory: all but the activations.
    pub fn memory(&self) -> u64 {
        self.weights + self.table + self.kv
    }
}

impl Add for Traffic {
    type Output = Traffic;

    fn add(self, other: Traffic) -> Traffic {
        Traffic {
            weights: self.weights + other.weights,
            table: self.table + other.table,
            kv: self.kv + other.kv,
            activations: self.activations + other.activations,
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        *self = *self + other;
    }
}

impl DeviceProgram {
    /// What a phase moves in a call of that shape; a draft's logits are listed, not stored. Partial results of attention that is
    /// split over blocks, and what a choice reads more than once, are not counted.
    pub fn traffic(&self, phase: &Phase, call: CallShape) -> Traffic {
        let is = |kind: PhaseKind| phase.kind == kind as u32;
        let mut traffic = Traffic::default();
        if phase.flags & flags::OUTPUT_ROWS != 0 && call.output_rows == 0 {
            return traffic;
        }
        let (rows, output_rows) = (u64::from(call.rows), u64::from(call.output_rows));
        if is(PhaseKind::Linear) {
            return self.linear_traffic(&phase.part(), call);
        }
        if is(PhaseKind::Embed) {
            let embed: EmbedPhase = phase.part();
            let columns = u64::from(embed.columns);
            let format = self.stacks.get(embed.stack as usize);
            let bits = format.map_or(16, |format| format.bits() as u64);
            traffic.table = rows * columns * bits / 8;
            traffic.activations = view_bytes(rows, columns, embed.view, embed.view_stats);
        } else if is(PhaseKind::Attention) {
            let attention: AttentionPhase = phase.part();
            let heads = u64::from(attention.kv_heads) * u64::from(attention.head_dim);
            // Positions that any of the rows, which are a chain, sees.
            let all = u64::from(call.length) + rows;
            let seen = match attention.window {
                0 => all,
                window => all.min(u64::from(window) + rows - 1),
            };
            traffic.kv = (seen + rows) * heads * 2 * 2;
            let columns = u64::from(attention.qkv_columns);
            traffic.activations = rows * (4 * columns + 2 * heads * u64::from(attention.group));
        } else if is(PhaseKind::Export) || is(PhaseKind::Import) || is(PhaseKind::Copy) {
            let over_outputs = phase.flags & flags::OUTPUT_ROWS != 0;
            let rows = if over_outputs { output_rows } else { rows };
            traffic.activations = self.copy_bytes(phase, rows);
        } else if is(PhaseKind::Choose) {
            let choose: ChoosePhase = phase.part();
            traffic.activations = match choose.listed {
                NONE => 4 * output_rows * u64::from(choose.vocab_size),
                _ => listed_bytes(&self.sizes, output_rows, choose.vocab_size),
            };
        }
        traffic
    }

    /// Of a phase that copies rows. Every block of an import under a norm reads all of them.
    fn copy_bytes(&self, phase: &Phase, rows: u64) -> u64 {
        let copy: CopyPhase = phase.part();
        let columns = u64::from(copy.columns);
        let is_import = phase.kind == PhaseKind::Import as u32;
        let read = match phase.kind == PhaseKind::Export as u32 {
            true => 0,
            false if is_import && copy.norm != NONE => {
                let owners = copy.tiles.min(self.sizes.architecture.sm_count);
                4 * columns * (1 + u64::from(owners))
            }
            false => 4 * columns,
        };
        let written = match (is_import, copy.in_order) {
            (true, _) => {
                return rows * read + view_bytes(rows, columns, copy.view, copy.view_stats);
            }
            (false, 0) => 4 * columns,
            (false, _) => 2 * columns,
        };
        rows * (read + written)
    }

    fn linear_traffic(&self, linear: &LinearPhase, call: CallShape) -> Traffic {
        let mut traffic = Traffic::default();
        let Some(format) = self.stacks.get(linear.stack as usize) else {
            return traffic;
        };
        let all = linear.input_rows == RowSet::All as u32;
        let rows = if all { call.rows } else { call.output_rows };
        let k = linear.k as usize;
        let tail = match k % CHUNK {
            0 => 0,
            tail => format.block_bytes(tail) as u64,
        };
        let tile_bytes = (k / CHUNK * format.block_bytes(CHUNK)) as u64 + tail;
        let rows = u64::from(rows);
        let stats = match linear.stats {
            NONE => 0,
            _ => 4 * rows * u64::from(linear.stat_tiles),
        };
        let span_count = self.span_count.max(1) as usize;
        for spans in self.spans.chunks(span_count) {
            let tiles = spans.get(linear.span as usize).map_or(0, |span| span.tiles);
            let tiles = tiles & !SPAN_ARRIVES;
            if tiles == 0 {
                continue;
            }
            traffic.weights += u64::from(tiles) * tile_bytes;
            traffic.activations += self.copied(linear.k, tiles, rows as u32) + stats;
        }
        let parts = linear.parts.iter().take(linear.part_count as usize);
        let columns: u64 = parts.map(|part| u64::from(part.n)).sum();
        let of_residual = [EpilogueKind::Residual as u32, EpilogueKind::Begin as u32];
        traffic.activations += if of_residual.contains(&linear.epilogue) {
            view_bytes(rows, columns, linear.view, linear.view_stats)
        } else if linear.epilogue == EpilogueKind::Gated as u32 {
            2 * rows * columns / 2
        } else if linear.listed != NONE {
            listed_bytes(&self.sizes, rows, linear.output_columns)
        } else {
            4 * rows * columns
        };
        traffic
    }
}

/// What a writer of the residual leaves for its reader.
fn view_bytes(rows: u64, columns: u64, view: u32, stats: u32) -> u64 {
    let tiles = columns.div_ceil(TILE_ROWS as u64);
    let values = if view == NONE { 0 } else { 2 * columns };
    rows * (values + if stats == NONE { 0 } else { 4 * tiles })
}
