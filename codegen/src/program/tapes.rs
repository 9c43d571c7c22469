//! In which pieces, and in which order, each block fetches its weights: the ring of `kernels/ring.cuh` copies one stage after
//! the other and knows nothing of phases.

use super::ProgramError;
use super::abi::{LinearPhase, Phase, PhaseKind, RowSet, Segment, Stage, TapeRange, flags};
use super::spans::SpanTable;
use crate::layout::{Cut, Layout, Stack};
use crate::tune::{ProgramLayout, ROW_TILES};

/// Kinds of tape of a segment, `TAPES` of `kernels/program.cuh`: all phases take whole tile groups; those over all rows take
/// parts of them; all phases do.
pub(super) const KINDS: usize = 3;

pub(super) struct Tapes {
    pub stages: Vec<Stage>,
    /// `[segment][kind][block]`
    pub ranges: Vec<TapeRange>,
}

/// All tapes.
pub(super) fn build(
    phases: &[Phase],
    segments: &[Segment],
    spans: &SpanTable,
    layout: &Layout,
    sizes: &ProgramLayout,
) -> Result<Tapes, ProgramError> {
    let mut tapes = Tapes {
        stages: Vec::new(),
        ranges: Vec::new(),
    };
    // The width of the widest call: only a prompt chunk's is less than a group.
    let widest = ROW_TILES
        .iter()
        .position(|tiles| 8 * tiles == sizes.row_capacity());
    let part = sizes.groups[widest.unwrap_or(0)];
    for segment in segments {
        let first = segment.first_phase as usize;
        let phases = &phases[first..first + segment.phases as usize];
        for kind in 0..KINDS {
            for block in 0..layout.cut.sm_count as usize {
                let range = tapes.tape(phases, spans, layout, block, |linear| match kind {
                    0 => layout.cut.tile_group,
                    1 if linear.input_rows != RowSet::All as u32 => layout.cut.tile_group,
                    _ => part,
                })?;
                tapes.ranges.push(range);
            }
        }
    }
    Ok(tapes)
}

impl Tapes {
    fn tape(
        &mut self,
        phases: &[Phase],
        spans: &SpanTable,
        layout: &Layout,
        block: usize,
        width: impl Fn(&LinearPhase) -> u32,
    ) -> Result<TapeRange, ProgramError> {
        let first = self.stages.len();
        let mut outputs_from = None;
        for (index, phase) in phases.iter().enumerate() {
            if phase.kind != PhaseKind::Linear as u32 {
                continue;
            }
            let linear: LinearPhase = phase.part();
            let over_outputs = phase.flags & flags::OUTPUT_ROWS != 0;
            if over_outputs {
                outputs_from.get_or_insert(self.stages.len());
            } else if outputs_from.is_some() {
                return Err(ProgramError::Invalid(format!(
                    "phase {index} works on all rows after one that works on the output rows"
                )));
            }
            let placement = spans.placement(linear.span).and_then(|id| {
                let placement = layout.placements.get(id.index())?;
                Some((placement, placement.tiles(block)))
            });
            let Some((placement, tiles)) = placement else {
                return Err(ProgramError::Invalid(format!(
                    "phase {index} has no weights"
                )));
            };
            let pieces = stages_of(
                &placement.stack,
                layout.cut,
                tiles.end - tiles.start,
                width(&linear),
            );
            self.stages
                .extend(pieces.into_iter().map(|(offset, bytes)| Stage {
                    offset: placement.offsets[block] + offset,
                    bytes,
                    phase: index as u32,
                }));
        }
        let count = |end: usize| (end - first) as u32;
        let (Ok(first), Ok(_)) = (u32::try_from(first), u32::try_from(self.stages.len())) else {
            return Err(ProgramError::TooLarge {
                what: "tapes",
                bytes: self.stages.len() as u64 * size_of::<Stage>() as u64,
            });
        };
        Ok(TapeRange {
            first,
            count: count(self.stages.len()),
            before_outputs: count(outputs_from.unwrap_or(self.stages.len())),
            unused: 0,
        })
    }
}

/// The stages in which a span of `tiles` tiles is copied, `width` tiles of a group at a time: (offset in the span, bytes).
///
/// Blocks lie in the order group, chunk, tile. Where a group is taken whole, a run is all its full chunks and another one its
/// short last chunk; where it is taken in parts, each chunk of a part is a run. A run is cut into stages of [`Cut::unit`] blocks:
/// a group and a unit being powers of two, a stage has some tiles of one chunk or all tiles of some.
pub fn stages_of(stack: &Stack, cut: Cut, tiles: u32, width: u32) -> Vec<(u64, u32)> {
    let mut stages = Vec::new();
    let (full, tail) = (stack.block_bytes(0), stack.block_bytes(stack.chunks() - 1));
    let full_chunks = (stack.padded_k() / crate::layout::CHUNK) as u64;
    let has_tail = u64::from(stack.chunks()) > full_chunks;
    let unit = cut.unit(stack.format.block_bytes(crate::layout::CHUNK) as u64);
    let mut run = |mut at: u64, blocks: u64, bytes: u64| {
        let mut left = blocks;
        while left > 0 {
            let take = left.min(unit);
            stages.push((at, (take * bytes) as u32));
            at += take * bytes;
            left -= take;
        }
    };
    let mut at = 0;
    for group in cut.groups(tiles) {
        let group = group.len() as u64;
        let tail_at = at + full_chunks * group * full;
        if u64::from(width) >= group {
            run(at, group * full_chunks, full);
            if has_tail {
                run(tail_at, group, tail);
            }
        } else {
            for tile in (0..group).step_by(width.max(1) as usize) {
                let part = u64::from(width).min(group - tile);
                for chunk in 0..full_chunks {
                    run(at + chunk * group * full + tile * full, part, full);
                }
                if has_tail {
                    run(tail_at + tile * tail, part, tail);
                }
            }
        }
        at = tail_at + if has_tail { group * tail } else { 0 };
    }
    stages
}
