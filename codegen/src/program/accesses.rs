//! Which parts of the workspace a phase reads and writes.

use super::abi::{
    AttentionPhase, ChoosePhase, CopyPhase, EmbedPhase, EpilogueKind, LinearPhase, NONE, Phase,
    PhaseKind,
};
use std::ops::Range;

/// What is done with a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// Each block writes a part of its own, which no other one touches in that phase.
    Write,
}

/// Columns of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its offset.
    pub region: u32,
    pub columns: Range<u32>,
}

impl Place {
    fn whole(region: u32) -> Self {
        Place {
            region,
            columns: 0..NONE,
        }
    }

    /// Whether both name a column.
    pub fn meets(&self, other: &Place) -> bool {
        let (a, b) = (&self.columns, &other.columns);
        self.region == other.region && a.start < b.end && b.start < a.end
    }
}

/// All that blocks do in a phase, whichever of them.
pub(super) fn accesses(phase: &Phase) -> Vec<(Place, Access)> {
    use Access::{Read, Write};
    let kind = phase.kind;
    let is = |other: PhaseKind| kind == other as u32;
    let mut list = Vec::new();
    let mut whole = |region: u32, access: Access| list.push((Place::whole(region), access));
    if is(PhaseKind::Embed) {
        let embed: EmbedPhase = phase.part();
        whole(embed.view, Write);
        whole(embed.view_stats, Write);
    } else if is(PhaseKind::Linear) {
        let linear: LinearPhase = phase.part();
        whole(linear.input, Read);
        whole(linear.stats, Read);
        let of_residual = [EpilogueKind::Residual as u32, EpilogueKind::Begin as u32];
        if !of_residual.contains(&linear.epilogue) {
            whole(linear.output, Write);
        }
        whole(linear.view, Write);
        whole(linear.view_stats, Write);
        whole(linear.best, Write);
        whole(linear.listed, Write);
    } else if is(PhaseKind::Attention) {
        let attention: AttentionPhase = phase.part();
        whole(attention.qkv, Read);
        whole(attention.output, Write);
    } else if is(PhaseKind::Choose) {
        let choose: ChoosePhase = phase.part();
        whole(choose.logits, Read);
        whole(choose.best, Read);
        whole(choose.listed, Read);
        whole(choose.choices, Write);
        whole(choose.top, Write);
    } else if is(PhaseKind::Next) {
        let choose: ChoosePhase = phase.part();
        whole(choose.choices, Read);
        whole(choose.top, Read);
    } else if is(PhaseKind::Export) || is(PhaseKind::Import) || is(PhaseKind::Copy) {
        let copy: CopyPhase = phase.part();
        let columns = |start: u32| start..start.saturating_add(copy.columns);
        if is(PhaseKind::Export) {
            whole(copy.stats, Read);
        } else {
            let (region, columns) = (copy.from, columns(copy.from_column));
            list.push((Place { region, columns }, Read));
        }
        if is(PhaseKind::Import) {
            list.push((Place::whole(copy.view), Write));
            list.push((Place::whole(copy.view_stats), Write));
        } else {
            let (region, columns) = (copy.to, columns(copy.to_column));
            list.push((Place { region, columns }, Write));
        }
    }
    list.retain(|(place, _)| place.region != NONE);
    list
}

/// Whether a phase has to wait for those before it: it reads what they write, or writes what they read or write.
pub(super) fn depends(phase: &Phase, before: &[Phase]) -> bool {
    let own = accesses(phase);
    let meets = |(place, access): &(Place, Access)| {
        let reads = *access == Access::Read;
        let met =
            |(other, its): &(Place, Access)| place.meets(other) && !(reads && *its == Access::Read);
        own.iter().any(met)
    };
    before
        .iter()
        .flat_map(accesses)
        .any(|access| meets(&access))
}
