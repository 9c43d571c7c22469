//! Proof that what a block fetches is what it looks for: its tapes are replayed as `Reader` of `kernels/ring.cuh` and the loops
//! of `kernels/linear.cuh` go through them, with the sizes of formats and spans alone.

use super::invalid;
use crate::layout::CHUNK;
use crate::program::abi::{
    LinearPhase, PhaseKind, RowSet, SPAN_ARRIVES, Span, Stage, TapeRange, flags,
};
use crate::program::{DeviceProgram, ProgramError, tapes};

/// Where a block reads.
struct Reader<'a> {
    stages: &'a [Stage],
    stage_bytes: u32,
    item: usize,
    /// Blocks of the stage that are read.
    index: u32,
}

impl Reader<'_> {
    /// Takes the next block, which must be that of `offset`.
    fn take(&mut self, phase: u32, offset: u64, bytes: u32) -> Result<(), String> {
        let Some(stage) = self.stages.get(self.item) else {
            return Err(format!("it ends before the block at {offset}"));
        };
        let at = self.index * bytes;
        let fits = at + bytes <= stage.bytes && stage.bytes <= self.stage_bytes;
        if stage.phase != phase || stage.offset + u64::from(at) != offset || !fits {
            return Err(format!(
                "stage {} has {} bytes from {} for phase {}, where the block of {bytes} at {offset} is looked for",
                self.item, stage.bytes, stage.offset, stage.phase
            ));
        }
        self.index += 1;
        Ok(())
    }

    /// The stage whose last block of `bytes` bytes was taken, which must be all of it.
    fn close(&mut self, bytes: u32) -> Result<(), String> {
        let (item, read) = (self.item, self.index * bytes);
        let there = self.stages.get(item).map_or(0, |stage| stage.bytes);
        if read != there || !there.is_multiple_of(16) {
            return Err(format!("stage {item} has {there} bytes, {read} are read"));
        }
        self.item += 1;
        self.index = 0;
        Ok(())
    }
}

impl DeviceProgram {
    /// All tapes of a segment.
    pub(super) fn check_tapes(&self, segment: usize, blocks: usize) -> Result<(), ProgramError> {
        let first = segment * tapes::KINDS;
        for kind in 0..tapes::KINDS {
            for block in 0..blocks {
                let range = self.tapes.get((first + kind) * blocks + block);
                let Some(range) = range else {
                    return invalid(format!("segment {segment} has no tape for block {block}"));
                };
                let replayed = self.replay(segment, kind, block, range);
                replayed.or_else(|reason| {
                    invalid(format!(
                        "tape {kind} of segment {segment} for block {block}: {reason}"
                    ))
                })?;
            }
        }
        Ok(())
    }

    fn replay(
        &self,
        segment: usize,
        kind: usize,
        block: usize,
        range: &TapeRange,
    ) -> Result<(), String> {
        let (first, count) = (range.first as usize, range.count as usize);
        let stages = self.stages.get(first..).and_then(|s| s.get(..count));
        let mut reader = Reader {
            stages: stages.ok_or("it is longer than all stages")?,
            stage_bytes: self.sizes.stage_bytes,
            item: 0,
            index: 0,
        };
        let group = self.sizes.tile_group;
        let widest = self.sizes.row_tiles(self.sizes.row_capacity());
        let part = self.sizes.groups[widest.trailing_zeros() as usize];
        let mut before_outputs = None;
        for (index, phase) in self.phases_of(segment).iter().enumerate() {
            if phase.kind != PhaseKind::Linear as u32 {
                continue;
            }
            if phase.flags & flags::OUTPUT_ROWS != 0 {
                before_outputs.get_or_insert(reader.item);
            }
            let linear: LinearPhase = phase.part();
            let span = self.spans[block * self.span_count as usize + linear.span as usize];
            let width = match kind {
                0 => group,
                1 if linear.input_rows != RowSet::All as u32 => group,
                _ => part,
            };
            self.replay_span(&mut reader, index as u32, &linear, span, width)?;
        }
        if reader.item != count {
            return Err(format!("{} of {count} stages are read", reader.item));
        }
        let before = before_outputs.unwrap_or(count);
        if before != range.before_outputs as usize {
            let told = range.before_outputs;
            return Err(format!(
                "{before} stages come before the output rows, it says {told}"
            ));
        }
        Ok(())
    }

    fn replay_span(
        &self,
        reader: &mut Reader<'_>,
        phase: u32,
        linear: &LinearPhase,
        span: Span,
        width: u32,
    ) -> Result<(), String> {
        let format = self.stacks.get(linear.stack as usize);
        let format = format.ok_or("its weights have no form")?;
        let bytes_of = |columns: u32| format.block_bytes(columns as usize) as u32;
        let (chunk, full) = (CHUNK as u32, bytes_of(CHUNK as u32));
        let chunks = linear.k.div_ceil(chunk);
        let tile_bytes: u64 = (0..chunks)
            .map(|i| u64::from(bytes_of(chunk.min(linear.k - i * chunk))))
            .sum();
        let tiles = span.tiles & !SPAN_ARRIVES;
        let unit = self.sizes.cut().unit(u64::from(full)) as u32;
        for group in self.sizes.cut().groups(tiles) {
            let start = span.offset + u64::from(group.start) * tile_bytes;
            let group = group.len() as u32;
            let width = width.clamp(1, group);
            // Full chunks that a stage of the whole group has.
            let of_stage = if width < group {
                1
            } else {
                (unit / group).max(1)
            };
            for begin in (0..group).step_by(width as usize) {
                for i in 0..chunks {
                    let columns = chunk.min(linear.k - i * chunk);
                    let bytes = bytes_of(columns);
                    let row = start + u64::from(i) * u64::from(group) * u64::from(full);
                    let more = (i + 1) % of_stage != 0 && (i + 2) * chunk <= linear.k;
                    for tile in 0..width {
                        let at = row + u64::from(begin + tile) * u64::from(bytes);
                        reader.take(phase, at, bytes)?;
                        if (tile + 1) % unit.min(width) == 0 && !more {
                            reader.close(bytes)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
