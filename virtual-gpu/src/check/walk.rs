//! One access on its way over the shadow of a memory.

use std::ops::Range;

use super::granule::Shadow;
use super::log::{Found, Last, Log};
use super::pattern::{LaneAccess, Lanes, Pattern};
use super::race::{Conflict, Footprint};
use super::record::{Access, Agent, ConflictKind, Context, Record};

pub(crate) struct Walk<'a> {
    log: &'a mut Log,
    shadow: &'a mut Shadow,
    context: Context<'a>,
    record: Record,
    found: Option<Conflict>,
}

impl<'a> Walk<'a> {
    pub fn new(
        log: &'a mut Log,
        shadow: &'a mut Shadow,
        context: Context<'a>,
        record: Record,
    ) -> Self {
        Self {
            log,
            shadow,
            context,
            record,
            found: None,
        }
    }

    /// Makes the access at all of its footprint; the first conflict, if any.
    pub fn over(mut self, pattern: Pattern, footprint: &Footprint) -> Option<Conflict> {
        match (pattern, footprint) {
            (Pattern::Row { start, end, lanes }, _) => self.range(start..end, lanes),
            (
                Pattern::Strided {
                    start,
                    stride,
                    count,
                    lanes,
                },
                Footprint::Lanes(access),
            ) => {
                let starts = (0..count as u64).map(|lane| start + lane * stride);
                self.pieces(starts, access.bytes, lanes);
            }
            (Pattern::Same { start }, Footprint::Lanes(access)) => {
                self.group(access, access.mask, start)
            }
            (Pattern::Table(lanes), Footprint::Lanes(access)) => {
                if self.context.tables.is_distinct(lanes) {
                    let starts = bits(access.mask).map(|lane| access.addresses[lane as usize]);
                    self.pieces(starts, access.bytes, lanes);
                } else {
                    let mut starts = Vec::new();
                    self.groups(access, |walk, group, start| {
                        walk.compare(access, group, start);
                        starts.push(start);
                    });
                    self.pieces(starts.into_iter(), access.bytes, lanes);
                }
            }
            (Pattern::Scatter, Footprint::Lanes(access)) if access.collective => {
                let starts = bits(access.mask).map(|lane| access.addresses[lane as usize]);
                self.pieces(starts, access.bytes, Lanes::Mask(u32::MAX));
            }
            (Pattern::Scatter, Footprint::Lanes(access)) => {
                self.groups(access, |walk, group, start| {
                    walk.group(access, group, start)
                });
            }
            // Only lanes come in these shapes.
            (_, Footprint::Bytes { .. }) => {}
        }
        self.found
    }

    /// Lanes with the same address make one access.
    fn groups(&mut self, access: &LaneAccess, mut visit: impl FnMut(&mut Self, u32, u64)) {
        let mut rest = access.mask;
        // Bit n is set if the low bits of an address that is still to come may be n: most gathers have no duplicates.
        let slot = |address: u64| 1u64 << ((address / access.bytes.max(1) as u64) & 63);
        let (mut once, mut twice) = (0, 0);
        for lane in bits(rest) {
            let bit = slot(access.addresses[lane as usize]);
            twice |= once & bit;
            once |= bit;
        }
        while rest != 0 {
            let lane = rest.trailing_zeros();
            let start = access.addresses[lane as usize];
            let mut group = 1 << lane;
            if twice & slot(start) != 0 {
                for (lane, address) in access.addresses.iter().enumerate() {
                    group |= ((*address == start) as u32) << lane;
                }
                group &= rest;
            }
            rest &= !group;
            visit(&mut *self, group, start);
        }
    }

    fn group(&mut self, access: &LaneAccess, group: u32, start: u64) {
        self.compare(access, group, start);
        let lanes = if access.collective { u32::MAX } else { group };
        self.range(
            start..start.saturating_add(access.bytes as u64),
            Lanes::Mask(lanes),
        );
    }

    /// Lanes that write to one address must write one value.
    fn compare(&mut self, access: &LaneAccess, group: u32, start: u64) {
        let bytes = access.bytes as u64;
        if self.record.access == Access::Write
            && !group.is_power_of_two()
            && let Some(values) = access.values
        {
            let first = group.trailing_zeros();
            let odd = bits(group).find(|lane| values[*lane as usize] != values[first as usize]);
            if let Some(lane) = odd {
                self.found.get_or_insert(Conflict {
                    kind: ConflictKind::Race,
                    start,
                    bytes,
                    lane,
                    same_warp: true,
                    other_pc: self.record.pc,
                    other_block: self.record.block,
                    other_warp: self.record.warp as u32,
                    other_lane: first,
                    other_access: self.record.access,
                    other_async: self.record.agent != Agent::Warp,
                });
            }
        }
    }

    fn range(&mut self, range: Range<u64>, lanes: Lanes) {
        let bytes = range.end - range.start;
        self.record.lanes = lanes;
        let number = self.log.number(&self.record);
        let mut last = Last::NONE;
        self.piece(range.start, bytes, number, &mut last);
    }

    /// One access at many places.
    fn pieces(&mut self, starts: impl Iterator<Item = u64>, bytes: u32, lanes: Lanes) {
        self.record.lanes = lanes;
        let number = self.log.number(&self.record);
        let mut last = Last::NONE;
        for start in starts {
            self.piece(start, bytes as u64, number, &mut last);
        }
    }

    fn piece(&mut self, start: u64, bytes: u64, number: u32, last: &mut Last) {
        let mut found = None;
        let (mut at, end) = (start, start.saturating_add(bytes));
        while at < end {
            if !at.is_multiple_of(4) || end - at < 4 {
                let word = at & !3;
                let stop = end.min(word + 4);
                let granule = &mut self.shadow.words(word / 4, 1)[0];
                self.log.bytes(
                    granule,
                    word,
                    at - word..stop - word,
                    number,
                    &self.context,
                    &mut found,
                );
                at = stop;
            } else {
                let words = self.shadow.words(at / 4, (end - at) / 4);
                let count = words.len() as u64;
                self.log
                    .sweep(words, at / 4, number, &self.context, last, &mut found);
                at += 4 * count;
            }
        }
        if let Some(found) = found {
            self.report(&found);
        }
    }

    fn report(&mut self, found: &Found) {
        let earlier = &found.earlier;
        let same_warp = (earlier.block, earlier.warp) == (self.record.block, self.record.warp);
        let tables = self.context.tables;
        let bytes = found.address..found.address + found.bytes;
        // Among the bytes of a word the one whose lanes really conflict is the one to name.
        let pairs = bytes.map(|byte| {
            (
                tables.at(earlier.lanes, byte),
                tables.at(self.record.lanes, byte),
            )
        });
        let (before, after) = pairs
            .max_by_key(|(a, b)| same_warp && (a | b).count_ones() > 1)
            .unwrap_or((1, 1));
        let other_lane = before.trailing_zeros();
        let apart = if same_warp {
            after & !(1 << other_lane)
        } else {
            after
        };
        let lane = if apart == 0 { after } else { apart }.trailing_zeros();
        let other_lane = if same_warp && lane == other_lane && before.count_ones() > 1 {
            (before & (before - 1)).trailing_zeros()
        } else {
            other_lane
        };
        self.found.get_or_insert(Conflict {
            kind: found.kind,
            start: found.address,
            bytes: found.bytes,
            lane,
            same_warp,
            other_pc: earlier.pc,
            other_block: earlier.block,
            other_warp: earlier.warp as u32,
            other_lane,
            other_access: earlier.access,
            other_async: earlier.agent != Agent::Warp,
        });
    }
}

fn bits(mask: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |lane| mask >> lane & 1 == 1)
}
