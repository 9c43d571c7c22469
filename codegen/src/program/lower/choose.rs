//! The end of a segment: tokens are chosen, or listed as guesses.

use super::{Logits, Lowering, Walk, stores};
use crate::program::abi::{ChoosePhase, NONE, Phase, PhaseKind, TOP_LIMIT, flags};
use crate::program::{Lists, ProgramError};

impl Lowering<'_> {
    /// A choice for each output row of each of the segment's logits, and the end of the call.
    pub(super) fn choose(&mut self, walk: &mut Walk<'_>) -> Result<(), ProgramError> {
        let op = walk.segment.ops.len() as u32;
        let kind = walk.segment.kind;
        if walk.logits.is_empty() {
            return Err(ProgramError::Plan(format!("{kind} has no logits")));
        }
        let rows = u64::from(self.sizes.max_rows);
        let heads = walk.logits.len() as u32;
        let top = 8 * TOP_LIMIT as u64 * rows * u64::from(heads);
        let top = self.workspace.place(self.own("top"), top)?;
        let candidates = self.candidate_bytes();
        let candidates = self.workspace.place("candidates", candidates)?;
        let mut phases: Vec<ChoosePhase> = Vec::new();
        for (head, logits) in (0..heads).zip(walk.logits.clone()) {
            let Logits {
                offset,
                columns,
                best,
                listed,
            } = logits;
            // What a draft says is listed as it is, and none of it chosen.
            let (adjusted, choices) = match self.is_draft {
                true => (NONE, NONE),
                false => {
                    let bytes = 16 * u64::from(columns.div_ceil(4)) * rows;
                    let adjusted = self.workspace.place("adjusted logits", bytes)?;
                    (adjusted, self.workspace.place("choices", 16 * rows)?)
                }
            };
            phases.push(ChoosePhase {
                logits: offset,
                vocab_size: columns,
                best,
                choices,
                top: top + 8 * TOP_LIMIT as u32 * head * self.sizes.max_rows,
                candidates,
                adjusted,
                head,
                listed,
                unused: 0,
            });
        }
        if self.is_draft {
            self.lists = Some(Lists {
                top,
                heads,
                rows: self.sizes.max_rows,
            });
        }
        let edge = self.new_edge();
        for (i, choose) in (1..).zip(&phases) {
            let mut phase = Phase::new(PhaseKind::Choose, op, choose);
            (phase.edge_in, phase.arrivals_in) = walk.edge;
            phase.flags |= flags::OUTPUT_ROWS;
            if self.is_draft {
                phase.flags |= flags::LISTS;
            }
            // What a block did before its last choice is over when it arrives.
            if i == phases.len() {
                phase.edge_out = edge;
                phase.flags |= flags::ALL_ARRIVE;
            }
            walk.phases.push(phase);
        }
        let mut phase = Phase::new(PhaseKind::Next, op, &phases[0]);
        (phase.edge_in, phase.arrivals_in) = (edge, self.sizes.architecture.sm_count);
        walk.phases.push(phase);
        Ok(())
    }

    /// Room for lists of tokens: of the target one for each row, of a draft one for each block that makes one, as many rows and
    /// heads as there may be.
    fn candidate_bytes(&self) -> u64 {
        let rows = u64::from(self.sizes.max_rows);
        let blocks = u64::from(self.sizes.architecture.sm_count);
        let of_segment = |segment: &crate::plan::Segment| {
            let stored = segment.ops.iter().filter_map(stores);
            let logits = stored.filter(|buffer| segment.outputs.contains(buffer));
            let columns: Vec<u32> = logits.map(|id| self.plan.buffer(id).columns).collect();
            let widest = u64::from(columns.iter().copied().max().unwrap_or(0));
            let lists = match segment.kind.is_draft() {
                true => (rows * columns.len() as u64).min(blocks),
                false => rows,
            };
            8 * widest * lists
        };
        self.plan.segments.iter().map(of_segment).max().unwrap_or(0)
    }
}
