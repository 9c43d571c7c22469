//! The log of accesses that the shadow refers to.
//!
//! A record describes one warp-wide access; shadow granules name it by number, so that the 32 granules of a row take 8
//! bytes each and are compared with one test. Accesses that are concurrent with each other form lists that share
//! their tails.

use std::ops::Range;

use super::pattern::Lanes;
use super::proxy;
use super::record::{Access, Agent, ConflictKind, Context, Record, absorb, includes, stands_for};
use super::table::Tables;

/// State of four bytes, or of one: the last write, and the accesses that it does not stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granule {
    pub writer: u32,
    pub others: u32,
}

impl Granule {
    /// Writer of a granule whose four bytes differ; `others` is then the number of their states.
    pub const SPLIT: u32 = u32::MAX;
    /// Equal to no granule.
    pub const NEVER: Self = Self {
        writer: Self::SPLIT,
        others: u32::MAX,
    };
}

#[derive(Clone, Copy, Debug)]
struct Node {
    record: u32,
    /// An older node, or 0.
    next: u32,
    /// The list from here on contains a write.
    writes: bool,
}

/// A conflict, and where it was met.
pub(crate) struct Found {
    pub kind: ConflictKind,
    pub earlier: Record,
    pub address: u64,
    pub bytes: u64,
}

/// The last step that an access has taken, which is the same for equal granules.
#[derive(Clone, Copy)]
pub(crate) struct Last {
    from: Granule,
    to: Granule,
}

impl Last {
    pub const NONE: Self = Self {
        from: Granule::NEVER,
        to: Granule::NEVER,
    };
}

/// Result of taking a granule one access further.
pub(crate) struct Step {
    pub next: Granule,
    pub conflict: Option<(ConflictKind, Record)>,
    /// Equal granules elsewhere take the same step.
    uniform: bool,
}

#[derive(Clone, Copy)]
struct Memo {
    from: Granule,
    record: u32,
    next: Granule,
}

const CACHE: usize = 1 << 12;

/// Records, lists of them, and the states of split granules.
pub(crate) struct Log {
    records: Vec<Record>,
    nodes: Vec<Node>,
    splits: Vec<[Granule; 4]>,
    free_splits: Vec<u32>,
    recent: Vec<u32>,
    memo: Vec<Memo>,
    scratch: Vec<u32>,
    /// Size at which what is no longer referred to is thrown away.
    limit: usize,
}

impl Log {
    pub fn new() -> Self {
        let nothing = Record {
            block: 0,
            warp: 0,
            component: 0,
            home: 0,
            value: 0,
            time: 0,
            pc: 0,
            lanes: Lanes::Mask(0),
            access: Access::Read,
            agent: Agent::Warp,
        };
        Self {
            records: vec![nothing],
            nodes: vec![Node {
                record: 0,
                next: 0,
                writes: false,
            }],
            splits: Vec::new(),
            free_splits: Vec::new(),
            recent: vec![0; CACHE],
            memo: vec![
                Memo {
                    from: Granule::NEVER,
                    record: 0,
                    next: Granule::NEVER
                };
                CACHE
            ],
            scratch: Vec::new(),
            limit: 1 << 20,
        }
    }

    /// The number of this record; an equal one that was used lately keeps its number.
    pub fn number(&mut self, record: &Record) -> u32 {
        let lanes = match record.lanes {
            Lanes::Mask(mask) => mask.wrapping_mul(0x9E37_79B1),
            Lanes::Linear { shift, turn } => (shift as u32) << 8 | turn as u32,
            Lanes::Table(number) => number.wrapping_mul(0xC2B2_AE35),
        };
        let key =
            record.pc.wrapping_mul(0x85EB_CA6B) ^ lanes ^ record.block << 5 ^ record.warp as u32;
        let slot = &mut self.recent[(key ^ key >> 12) as usize % CACHE];
        if self.records[*slot as usize] != *record || *slot == 0 {
            *slot = self.records.len() as u32;
            self.records.push(*record);
        }
        *slot
    }

    /// Makes access `number` at a granule of `width` bytes at `address`: checks it against what came before and
    /// returns the new state.
    pub fn step(
        &mut self,
        from: Granule,
        number: u32,
        context: &Context,
        address: u64,
        width: u64,
    ) -> Step {
        let key = from.writer.wrapping_mul(0x9E37_79B1)
            ^ from.others.wrapping_mul(0x85EB_CA6B)
            ^ number << 3;
        let slot = (key ^ key >> 15) as usize % CACHE;
        let memo = self.memo[slot];
        if memo.from == from && memo.record == number {
            return Step {
                next: memo.next,
                conflict: None,
                uniform: true,
            };
        }
        let record = self.records[number as usize];
        let (conflict, uniform) = self.check(from, &record, context, address..address + width);
        let mut local = false;
        let next = self.advance(from, number, &record, context, address, &mut local);
        let uniform = uniform && !local && conflict.is_none();
        if uniform {
            self.memo[slot] = Memo {
                from,
                record: number,
                next,
            };
        }
        Step {
            next,
            conflict,
            uniform,
        }
    }

    fn check(
        &self,
        from: Granule,
        record: &Record,
        context: &Context,
        bytes: Range<u64>,
    ) -> (Option<(ConflictKind, Record)>, bool) {
        let mut uniform = true;
        let mut races = |earlier: &Record| {
            if !(earlier.access.writes() || record.access.writes())
                || context.strong(earlier, record)
            {
                return false;
            }
            let (ordered, everywhere) = context.ordered(earlier, record, bytes.clone());
            uniform &= everywhere;
            if !ordered
                && context.unchanged
                && earlier.access.stores()
                && earlier.agent == Agent::Warp
            {
                // Another store of the same value: whichever comes last, the memory holds it. The next store of this
                // record may have another, so nothing is to be concluded for it.
                uniform = false;
                return false;
            }
            !ordered
        };
        if from.writer != 0 {
            let earlier = &self.records[from.writer as usize];
            if races(earlier) {
                return (Some((ConflictKind::Race, *earlier)), false);
            }
            if record.agent.is_async_proxy() && proxy::is_hidden(earlier, context) {
                return (Some((ConflictKind::MissingProxyFence, *earlier)), false);
            }
        }
        let mut at = from.others;
        while at != 0 && (record.access.writes() || self.nodes[at as usize].writes) {
            let node = self.nodes[at as usize];
            let earlier = &self.records[node.record as usize];
            if races(earlier) {
                return (Some((ConflictKind::Race, *earlier)), false);
            }
            at = node.next;
        }
        (None, uniform)
    }

    /// The state after an access; `local` is set if equal granules elsewhere may become something else.
    fn advance(
        &mut self,
        from: Granule,
        number: u32,
        record: &Record,
        context: &Context,
        address: u64,
        local: &mut bool,
    ) -> Granule {
        if record.access == Access::Write {
            return Granule {
                writer: number,
                others: 0,
            };
        }
        let writes = record.access.writes();
        let old = self.records[from.writer as usize];
        let mut merged = *record;
        if writes && from.writer != 0 {
            if from.writer == number || includes(&old, record, context, address, local) {
                return from;
            }
            absorb(&old, &mut merged, context, address, local);
        }
        // A loop that gathers with other lanes each time would make the list as long as the loop.
        let mut at = from.others;
        while at != 0 {
            let node = self.nodes[at as usize];
            let earlier = &self.records[node.record as usize];
            if includes(earlier, record, context, address, local) {
                return from;
            }
            absorb(earlier, &mut merged, context, address, local);
            at = node.next;
        }
        let number = if merged == *record {
            number
        } else {
            self.number(&merged)
        };
        let mut others = self.without_stale(from.others, &merged, context, address, local);
        if !writes {
            return Granule {
                others: self.cons(number, others),
                ..from
            };
        }
        if from.writer != 0 && !stands_for(&merged, &old, context, address, local) {
            others = self.cons(from.writer, others);
        }
        Granule {
            writer: number,
            others,
        }
    }

    /// The list without the accesses that `record` stands for.
    fn without_stale(
        &mut self,
        list: u32,
        record: &Record,
        context: &Context,
        address: u64,
        local: &mut bool,
    ) -> u32 {
        let mut tail = list;
        let mut at = list;
        while at != 0 {
            let node = self.nodes[at as usize];
            if stands_for(
                record,
                &self.records[node.record as usize],
                context,
                address,
                local,
            ) {
                tail = node.next;
            }
            at = node.next;
        }
        // Nodes are newest first, so what has a number above that of the tail lies before it.
        let mut kept = std::mem::take(&mut self.scratch);
        at = list;
        while at > tail {
            let node = self.nodes[at as usize];
            if !stands_for(
                record,
                &self.records[node.record as usize],
                context,
                address,
                local,
            ) {
                kept.push(node.record);
            }
            at = node.next;
        }
        let rest = kept
            .drain(..)
            .rev()
            .fold(tail, |rest, record| self.cons(record, rest));
        self.scratch = kept;
        rest
    }

    fn cons(&mut self, record: u32, next: u32) -> u32 {
        let writes =
            self.records[record as usize].access.writes() || self.nodes[next as usize].writes;
        self.nodes.push(Node {
            record,
            next,
            writes,
        });
        (self.nodes.len() - 1) as u32
    }

    /// Makes access `number` at each granule of a row of words; reports the first conflict with its byte address.
    pub fn sweep(
        &mut self,
        words: &mut [Granule],
        first: u64,
        number: u32,
        context: &Context,
        last: &mut Last,
        found: &mut Option<Found>,
    ) {
        // Granules are mostly equal, and four are compared like one.
        let (fours, rest) = words.as_chunks_mut::<4>();
        let (mut at, mut step) = (first, *last);
        for four in fours {
            let equal = |same, granule: &Granule| same & (*granule == step.from);
            if four.iter().fold(true, equal) {
                *four = [step.to; 4];
            } else {
                step = self.each(four, at, number, context, step, found);
            }
            at += 4;
        }
        if !rest.is_empty() {
            step = self.each(rest, at, number, context, step, found);
        }
        *last = step;
    }

    /// As `sweep`, one granule after the other.
    fn each(
        &mut self,
        words: &mut [Granule],
        first: u64,
        number: u32,
        context: &Context,
        last: Last,
        found: &mut Option<Found>,
    ) -> Last {
        let Last { mut from, mut to } = last;
        for (at, granule) in words.iter_mut().enumerate() {
            if *granule == from {
                *granule = to;
                continue;
            }
            let address = (first + at as u64) * 4;
            if granule.writer == Granule::SPLIT {
                self.bytes(granule, address, 0..4, number, context, found);
                continue;
            }
            let step = self.step(*granule, number, context, address, 4);
            if step.uniform {
                (from, to) = (*granule, step.next);
            }
            *granule = step.next;
            if let Some((kind, earlier)) = step.conflict {
                found.get_or_insert(Found {
                    kind,
                    earlier,
                    address,
                    bytes: 4,
                });
            }
        }
        Last { from, to }
    }

    /// Makes access `number` at some bytes of the word at `address`.
    pub fn bytes(
        &mut self,
        granule: &mut Granule,
        address: u64,
        bytes: Range<u64>,
        number: u32,
        context: &Context,
        found: &mut Option<Found>,
    ) {
        let old = (granule.writer == Granule::SPLIT).then_some(granule.others);
        let mut parts = old.map_or([*granule; 4], |split| self.splits[split as usize]);
        for byte in bytes {
            let step = self.step(parts[byte as usize], number, context, address + byte, 1);
            parts[byte as usize] = step.next;
            if let Some((kind, record)) = step.conflict {
                found.get_or_insert(Found {
                    kind,
                    earlier: record,
                    address: address + byte,
                    bytes: 1,
                });
            }
        }
        if parts[1..].iter().all(|part| *part == parts[0]) {
            self.free_splits.extend(old);
            *granule = parts[0];
            return;
        }
        let split = old
            .or_else(|| self.free_splits.pop())
            .unwrap_or(self.splits.len() as u32);
        if split as usize == self.splits.len() {
            self.splits.push(parts);
        } else {
            self.splits[split as usize] = parts;
        }
        *granule = Granule {
            writer: Granule::SPLIT,
            others: split,
        };
    }

    pub fn is_full(&self) -> bool {
        self.records.len() + self.nodes.len() + self.splits.len() >= self.limit
    }

    /// Throws away what no granule refers to. `all` calls its argument with every granule there is, twice the same.
    pub fn compact(
        &mut self,
        tables: &mut Tables,
        mut all: impl FnMut(&mut dyn FnMut(&mut Granule)),
    ) {
        let mut record_number = vec![0u32; self.records.len()];
        let mut node_number = vec![0u32; self.nodes.len()];
        let mut splits = Vec::new();
        {
            let mut mark = |granule: &Granule| {
                record_number[granule.writer as usize] = 1;
                let mut at = granule.others as usize;
                while at != 0 && node_number[at] == 0 {
                    node_number[at] = 1;
                    record_number[self.nodes[at].record as usize] = 1;
                    at = self.nodes[at].next as usize;
                }
            };
            all(&mut |granule| {
                if granule.writer == Granule::SPLIT {
                    let parts = self.splits[granule.others as usize];
                    parts.iter().for_each(&mut mark);
                    granule.others = splits.len() as u32;
                    splits.push(parts);
                } else {
                    mark(granule);
                }
            });
        }
        record_number[0] = 1;
        node_number[0] = 1;
        self.records = renumber(&self.records, &mut record_number);
        tables.compact(self.records.iter_mut().map(|record| &mut record.lanes));
        let mut nodes = renumber(&self.nodes, &mut node_number);
        for node in &mut nodes {
            node.record = record_number[node.record as usize];
            node.next = node_number[node.next as usize];
        }
        self.nodes = nodes;
        let rename = |granule: &mut Granule| {
            granule.writer = record_number[granule.writer as usize];
            granule.others = node_number[granule.others as usize];
        };
        splits.iter_mut().flatten().for_each(rename);
        all(&mut |granule| {
            if granule.writer != Granule::SPLIT {
                rename(granule);
            }
        });
        self.splits = splits;
        self.free_splits.clear();
        self.recent.fill(0);
        self.memo.fill(Memo {
            from: Granule::NEVER,
            record: 0,
            next: Granule::NEVER,
        });
        self.limit = (1 << 20).max(2 * (self.records.len() + self.nodes.len() + self.splits.len()));
    }
}

/// Keeps the items with a mark and replaces marks by new numbers.
fn renumber<T: Copy>(items: &[T], marks: &mut [u32]) -> Vec<T> {
    let mut kept = Vec::new();
    for (item, mark) in items.iter().zip(marks) {
        if *mark != 0 {
            *mark = kept.len() as u32;
            kept.push(*item);
        }
    }
    kept
}
