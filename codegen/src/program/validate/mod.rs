//! Proof, before a launch, that every wait is answered, that no buffer is overwritten while it may still be read, and that
//! blocks fetch the weights that they look for.
//!
//! The blocks run their phases as a simulation: each in its own order, a wait passing when the counter has what it asks for.
//! Clocks say what happened before what: a block's clock counts its phases; an arrival leaves the block's clock at the edge, a
//! wait takes the edge's. A block may write a region only if everything that other blocks did with what was in it is in its
//! clock, and may read only what is.

mod tapes;

use super::abi::{
    AttentionPhase, CopyPhase, EmbedPhase, EpilogueKind, LinearPhase, NONE, Phase, PhaseKind,
    SPAN_ARRIVES, flags,
};
use super::accesses::{Access, Place, accesses};
use super::{DeviceProgram, ProgramError};
use std::collections::BTreeMap;
use std::ops::Range;

/// How a block takes part in a phase.
#[derive(Debug, Default)]
struct Part {
    waits: bool,
    arrives: u32,
    /// Attention: arrivals that follow when every block has had its part, whichever block makes them.
    joint: u32,
    accesses: Vec<(Place, Access)>,
}

/// Last use of columns of a region, by block: the clock of the block then.
#[derive(Debug, Clone)]
struct Uses {
    place: Place,
    reads: BTreeMap<usize, u32>,
    writes: BTreeMap<usize, u32>,
}

impl DeviceProgram {
    /// See the module.
    ///
    /// # Errors
    /// The first contradiction, in words.
    pub fn validate(&self) -> Result<(), ProgramError> {
        let blocks = self.sizes.architecture.sm_count as usize;
        if self.spans.len() != blocks * self.span_count as usize {
            return invalid(format!(
                "{} spans for {blocks} blocks of {}",
                self.spans.len(),
                self.span_count
            ));
        }
        for segment in 0..self.segments.len() {
            self.check_segment(segment, blocks)?;
        }
        Ok(())
    }

    fn check_segment(&self, segment: usize, blocks: usize) -> Result<(), ProgramError> {
        let phases = self.phases_of(segment);
        let Some(last) = phases.last() else {
            return invalid(format!("segment {segment} has no phases"));
        };
        if last.kind != PhaseKind::Next as u32 {
            return invalid(format!("segment {segment} does not end in a next call"));
        }
        let mut owners = BTreeMap::new();
        for (index, phase) in phases.iter().enumerate() {
            if phase.edge_out != NONE && owners.insert(phase.edge_out, index).is_some() {
                return invalid(format!("two phases arrive at edge {}", phase.edge_out));
            }
            if phase.edge_out != NONE && phase.edge_out >= self.edges {
                return invalid(format!("there is no edge {}", phase.edge_out));
            }
        }
        self.run(segment, phases, blocks)?;
        self.check_tapes(segment, blocks)
    }

    fn run(&self, segment: usize, phases: &[Phase], blocks: usize) -> Result<(), ProgramError> {
        let mut at = vec![0; blocks];
        let mut clocks = vec![vec![0u32; blocks]; blocks];
        let mut counters: BTreeMap<u32, (u32, Vec<u32>)> = BTreeMap::new();
        let mut uses: Vec<Uses> = Vec::new();
        let mut joined: BTreeMap<u32, usize> = BTreeMap::new();
        loop {
            let mut moved = false;
            for block in 0..blocks {
                while let Some(phase) = phases.get(at[block]) {
                    let part = self.part(phase, block, blocks)?;
                    if part.waits && phase.edge_in != NONE {
                        let seen = counters.get(&phase.edge_in);
                        let Some((_, clock)) = seen.filter(|(n, _)| *n >= phase.arrivals_in) else {
                            break;
                        };
                        for (own, other) in clocks[block].iter_mut().zip(clock) {
                            *own = (*own).max(*other);
                        }
                    }
                    moved = true;
                    // Stacks of one op write parts of their own, like blocks in one phase.
                    let mut before = phases[..at[block]].iter();
                    let others = before.rposition(|other| other.op != phase.op);
                    let first = others.map_or(0, |index| index as u32 + 1);
                    let mut after = phases[at[block]..].iter();
                    let same = after.position(|other| other.op != phase.op);
                    let last = same.map_or(phases.len(), |same| at[block] + same) as u32;
                    at[block] += 1;
                    clocks[block][block] += 1;
                    for (place, access) in part.accesses {
                        let region = place.region;
                        let is_given = self.is_given(segment, region);
                        check_access(
                            block,
                            &clocks[block],
                            first..last,
                            &mut uses,
                            (place, access),
                            is_given,
                        )
                        .map_err(|reason| self.access_error(segment, phase, region, &reason))?;
                    }
                    if part.arrives + part.joint > 0 {
                        let counter = counters
                            .entry(phase.edge_out)
                            .or_insert_with(|| (0, vec![0; blocks]));
                        counter.0 += part.arrives;
                        if part.joint > 0 {
                            let joined = joined.entry(phase.edge_out).or_default();
                            *joined += 1;
                            counter.0 += if *joined == blocks { part.joint } else { 0 };
                        }
                        for (edge, own) in counter.1.iter_mut().zip(&clocks[block]) {
                            *edge = (*edge).max(*own);
                        }
                    }
                }
            }
            if !moved {
                break;
            }
        }
        if let Some(block) = (0..blocks).find(|block| at[*block] < phases.len()) {
            let phase = &phases[at[block]];
            let seen = counters.get(&phase.edge_in).map_or(0, |(n, _)| *n);
            return invalid(format!(
                "block {block} waits in phase {} of segment {segment} for {} arrivals at edge {}, which gets {seen}",
                at[block], phase.arrivals_in, phase.edge_in
            ));
        }
        for phase in phases.iter().filter(|phase| phase.edge_in != NONE) {
            let seen = counters.get(&phase.edge_in).map_or(0, |(n, _)| *n);
            if seen != phase.arrivals_in {
                return invalid(format!(
                    "edge {} of segment {segment} gets {seen} arrivals in a run, a phase counts on {}",
                    phase.edge_in, phase.arrivals_in
                ));
            }
        }
        // Block 0 publishes the next call: whatever the others did must be over.
        for (block, clock) in clocks[0].iter().enumerate() {
            let needed = self.last_action(phases, block, blocks)?;
            if *clock < needed && block != 0 {
                return invalid(format!(
                    "the next call of segment {segment} may come while block {block} still runs this one"
                ));
            }
        }
        Ok(())
    }

    /// The clock of a block after the last phase in which it does anything.
    fn last_action(
        &self,
        phases: &[Phase],
        block: usize,
        blocks: usize,
    ) -> Result<u32, ProgramError> {
        let mut last = 0;
        for (index, phase) in phases.iter().enumerate() {
            let part = self.part(phase, block, blocks)?;
            if part.arrives + part.joint > 0 || !part.accesses.is_empty() {
                last = index as u32 + 1;
            }
        }
        Ok(last)
    }

    fn access_error(
        &self,
        segment: usize,
        phase: &Phase,
        region: u32,
        reason: &str,
    ) -> ProgramError {
        let name = self.workspace.region(region).map(|r| r.name.as_str());
        let name = name.unwrap_or("unknown memory");
        ProgramError::Invalid(format!(
            "in op {} of segment {segment}, {reason} `{name}`",
            phase.op
        ))
    }

    /// Whether calls of a segment find something there that others left.
    fn is_given(&self, segment: usize, region: u32) -> bool {
        let mut inputs = self.inputs.iter();
        inputs.any(|input| input.segment == segment && input.offset == region)
    }

    /// What a block does in a phase.
    fn part(&self, phase: &Phase, block: usize, blocks: usize) -> Result<Part, ProgramError> {
        let kind = phase.kind;
        let is = |other: PhaseKind| kind == other as u32;
        let owns = |tiles: u32| {
            let first = |block: usize| block as u64 * u64::from(tiles) / blocks as u64;
            first(block) < first(block + 1)
        };
        let has_edge = phase.edge_out != NONE;
        let all_arrive = u32::from(has_edge && phase.flags & flags::ALL_ARRIVE != 0);
        let mut part = Part {
            waits: true,
            arrives: all_arrive,
            ..Part::default()
        };
        let mut works = true;
        if is(PhaseKind::Embed) {
            works = owns(phase.part::<EmbedPhase>().tiles);
            part.waits = false;
            part.arrives = all_arrive.max(u32::from(works));
        } else if is(PhaseKind::Linear) {
            let linear: LinearPhase = phase.part();
            let index = block * self.span_count as usize + linear.span as usize;
            let Some(span) = self.spans.get(index) else {
                return invalid(format!("there is no span {}", linear.span));
            };
            works = span.tiles & !SPAN_ARRIVES > 0;
            let of_residual = [EpilogueKind::Residual as u32, EpilogueKind::Begin as u32];
            let first = block as u64 * u64::from(linear.view_tiles) / blocks as u64;
            if works
                && of_residual.contains(&linear.epilogue)
                && u64::from(span.first_tile) != first
            {
                return invalid(format!(
                    "op {} gives block {block} tiles of the residual from {} on, its own begin at {first}",
                    phase.op, span.first_tile
                ));
            }
            let arrives = u32::from(span.tiles & SPAN_ARRIVES != 0).max(all_arrive);
            part.arrives = if has_edge { arrives } else { 0 };
        } else if is(PhaseKind::Attention) {
            let attention: AttentionPhase = phase.part();
            part.arrives = 0;
            part.joint = attention.kv_heads;
        } else if is(PhaseKind::Export) || is(PhaseKind::Import) {
            works = owns(phase.part::<CopyPhase>().tiles);
        } else if is(PhaseKind::Next) {
            works = block == 0;
            part.waits = works;
        } else if is(PhaseKind::Narrow) {
            part.waits = false;
        } else if !is(PhaseKind::Choose) && !is(PhaseKind::Copy) {
            // Which blocks choose, or copy which rows, depends on the number of rows: any may.
            return invalid(format!("there is no phase of kind {kind}"));
        }
        if works {
            part.accesses = accesses(phase);
        }
        Ok(part)
    }
}

/// `op`: clock of all blocks before the phases of the op, and after them.
fn check_access(
    block: usize,
    clock: &[u32],
    op: Range<u32>,
    uses: &mut Vec<Uses>,
    (place, access): (Place, Access),
    is_given: bool,
) -> Result<(), String> {
    let unseen = |list: &BTreeMap<usize, u32>| {
        let mut others = list.iter().filter(|(other, _)| **other != block);
        others.find_map(|(other, when)| (clock[*other] < *when).then_some(*other))
    };
    let met = || uses.iter().filter(|uses| uses.place.meets(&place));
    // Blocks that write their own parts in one phase do not meet: their clocks are then equal.
    match access {
        Access::Read => {
            if let Some(other) = met().find_map(|uses| unseen(&uses.writes)) {
                return Err(format!(
                    "block {block} may read before block {other} has written"
                ));
            }
            if !is_given && met().all(|uses| uses.writes.is_empty()) {
                return Err(format!("block {block} reads what nobody has written of"));
            }
        }
        Access::Write => {
            if let Some(other) = met().find_map(|uses| unseen(&uses.reads)) {
                return Err(format!(
                    "block {block} may write while block {other} still reads"
                ));
            }
            let unseen =
                |(other, when): &(&usize, &u32)| **other != block && clock[**other] < **when;
            let mut writers = met().flat_map(|uses| &uses.writes);
            let apart =
                writers.find(|write| unseen(write) && (*write.1 <= op.start || *write.1 > op.end));
            if let Some((other, _)) = apart {
                return Err(format!(
                    "block {block} may write before or after block {other} has written for another phase"
                ));
            }
        }
    }
    let at = uses.iter().position(|uses| uses.place == place);
    let at = at.unwrap_or_else(|| {
        uses.push(Uses {
            place,
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
        });
        uses.len() - 1
    });
    let list = match access {
        Access::Read => &mut uses[at].reads,
        Access::Write => &mut uses[at].writes,
    };
    list.insert(block, clock[block]);
    Ok(())
}

fn invalid<T>(reason: String) -> Result<T, ProgramError> {
    Err(ProgramError::Invalid(reason))
}
