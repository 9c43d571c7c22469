//! What the race detector remembers of an access, and when one access is ordered after another.

use std::ops::Range;

use super::clock::{Layout, PerWarp, WarpClock};
use super::pattern::Lanes;
use super::table::Tables;

/// How far a memory operation or fence reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The threads of a block.
    Cta,
    /// The blocks of a cluster.
    Cluster,
    /// The device.
    Gpu,
    /// The device and the host.
    Sys,
}

impl Scope {
    /// Device and system scope are one for a single device.
    pub(crate) fn level(self) -> usize {
        (self as usize).min(2)
    }
}

/// What an access does, and how strongly. Volatile accesses are strong at system scope; acquire and release are strong
/// at theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Weak load.
    Read,
    /// Weak store.
    Write,
    /// Relaxed, acquire or volatile load.
    StrongRead(Scope),
    /// Relaxed, release or volatile store.
    StrongWrite(Scope),
    /// Atomic read-modify-write, reductions included.
    Atomic(Scope),
}

impl Access {
    /// True if it writes.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::StrongRead(_))
    }

    /// True for stores, which leave what they were given, unlike atomics.
    pub(crate) fn stores(self) -> bool {
        matches!(self, Self::Write | Self::StrongWrite(_))
    }

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::StrongRead(_) => "strong read",
            Self::StrongWrite(_) => "strong write",
            Self::Atomic(_) => "atomic",
        }
    }

    fn scope(self) -> Option<Scope> {
        match self {
            Self::Read | Self::Write => None,
            Self::StrongRead(scope) | Self::StrongWrite(scope) | Self::Atomic(scope) => Some(scope),
        }
    }
}

/// Who carries an access out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Agent {
    /// The warp itself.
    Warp,
    /// A copy that this counter of the warp waits for.
    Group(PerWarp),
    /// A copy that an mbarrier waits for.
    Mbarrier,
    /// A store that an mbarrier waits for.
    Store,
}

impl Agent {
    /// Bulk copies and products go through the async proxy, everything else through the generic one.
    pub fn is_async_proxy(self) -> bool {
        !matches!(
            self,
            Self::Warp | Self::Group(PerWarp::Copies) | Self::Store
        )
    }
}

/// One warp-wide access, or one asynchronous copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub block: u32,
    pub warp: u16,
    /// The access is over for everybody who knows this component of block `home` at `value` or above.
    pub component: u16,
    pub home: u32,
    pub value: u32,
    /// Time of the warp when it made the access or started the copy.
    pub time: u32,
    pub pc: u32,
    pub lanes: Lanes,
    pub access: Access,
    pub agent: Agent,
}

/// Who makes the access that is being checked, and what it knows.
pub(crate) struct Context<'a> {
    pub clock: &'a WarpClock,
    pub layout: Layout,
    pub tables: &'a Tables,
    /// The access is a store of what is in memory already.
    pub unchanged: bool,
    /// Cluster of each block; empty if the grid has none.
    pub clusters: &'a [u32],
}

impl Context<'_> {
    /// Morally strong: both operations are strong, and each scope includes the other's thread.
    pub fn strong(&self, a: &Record, b: &Record) -> bool {
        let (Some(x), Some(y)) = (a.access.scope(), b.access.scope()) else {
            return false;
        };
        let cluster = |block: u32| self.clusters.get(block as usize);
        let needed = if a.block == b.block {
            Scope::Cta
        } else if cluster(a.block).is_some() && cluster(a.block) == cluster(b.block) {
            Scope::Cluster
        } else {
            Scope::Gpu
        };
        x.min(y) >= needed
    }

    /// True if `earlier` happens before `record`, which is made now, at each of `bytes`; and whether that holds at
    /// every address.
    pub fn ordered(&self, earlier: &Record, record: &Record, bytes: Range<u64>) -> (bool, bool) {
        if earlier.value <= self.clock.knows(earlier.home, earlier.component) {
            return (true, true);
        }
        let own = (earlier.block, earlier.warp as u32) == (self.clock.block, self.clock.warp);
        let done = match earlier.agent {
            Agent::Warp => true,
            Agent::Group(kind) => {
                earlier.value <= self.clock.waited[kind as usize - PerWarp::Copies as usize]
            }
            Agent::Mbarrier | Agent::Store => false,
        };
        if !own || !done {
            return (false, true);
        }
        let ((a, b), end) = ((earlier.lanes, record.lanes), bytes.end);
        match (a, b) {
            (Lanes::Mask(a), Lanes::Mask(b)) => (self.lanes_ordered(a, b, earlier), true),
            _ if a == b && self.tables.is_distinct(a) => (true, true),
            _ => {
                let end = if a.is_fine() || b.is_fine() {
                    end
                } else {
                    bytes.start + 1
                };
                (bytes.start..end)
                    .map(|byte| {
                        self.lanes_ordered(
                            self.tables.at(a, byte),
                            self.tables.at(b, byte),
                            earlier,
                        )
                    })
                    .fold((true, false), |(all, uniform), ordered| {
                        (all && ordered, uniform)
                    })
            }
        }
    }

    /// Program order within lanes, and synchronisation of part of the warp.
    fn lanes_ordered(&self, before: u32, after: u32, earlier: &Record) -> bool {
        if (before | after).is_power_of_two() {
            return true;
        }
        let Some(table) = self
            .clock
            .partial
            .as_ref()
            .filter(|_| earlier.agent == Agent::Warp)
        else {
            return false;
        };
        let lanes = |mask: u32| (0..32).filter(move |lane| mask >> lane & 1 == 1);
        lanes(after).all(|b| lanes(before).all(|a| a == b || earlier.value <= table[b][a]))
    }
}

/// Why an access is a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// Two unordered accesses.
    Race,
    /// An ordered write of the generic proxy that the async proxy need not see.
    MissingProxyFence,
}

fn is_same_but_lanes(a: &Record, b: &Record) -> bool {
    (a.block, a.warp, a.home, a.component, a.value)
        == (b.block, b.warp, b.home, b.component, b.value)
        && (a.access, a.agent) == (b.access, b.agent)
}

/// Adds the lanes of an access that differs from `record` in nothing else. Tables are looked up at `address`; the
/// result holds only there if `local` is set.
pub(crate) fn absorb(
    earlier: &Record,
    record: &mut Record,
    context: &Context,
    address: u64,
    local: &mut bool,
) {
    if earlier.lanes == record.lanes || !is_same_but_lanes(earlier, record) {
        return;
    }
    if let Some((old, new)) = masks(earlier.lanes, record.lanes, context, address, local) {
        record.lanes = Lanes::Mask(old | new);
    }
}

/// True if `record` differs from `earlier` at most by having more lanes, at `address` if `local` is set.
pub(crate) fn includes(
    record: &Record,
    earlier: &Record,
    context: &Context,
    address: u64,
    local: &mut bool,
) -> bool {
    if !is_same_but_lanes(record, earlier) {
        return false;
    }
    match (record.lanes, earlier.lanes) {
        (new, old) if new == old => true,
        (Lanes::Mask(new), Lanes::Table(_)) if context.tables.all(earlier.lanes) & !new == 0 => {
            true
        }
        (new, old) => {
            masks(old, new, context, address, local).is_some_and(|(old, new)| old & !new == 0)
        }
    }
}

/// Both as masks, unless that would make what holds for a row hold for a word.
fn masks(
    old: Lanes,
    new: Lanes,
    context: &Context,
    address: u64,
    local: &mut bool,
) -> Option<(u32, u32)> {
    match (old, new) {
        (Lanes::Mask(old), Lanes::Mask(new)) => Some((old, new)),
        (Lanes::Table(_), other) | (other, Lanes::Table(_)) if !other.is_fine() => {
            *local = true;
            Some((
                context.tables.at(old, address),
                context.tables.at(new, address),
            ))
        }
        _ => None,
    }
}

/// True if whatever races with `earlier` from now on also races with `record`, so that `earlier` can be forgotten; at
/// the granule at `address` only if `local` is set.
pub(crate) fn stands_for(
    record: &Record,
    earlier: &Record,
    context: &Context,
    address: u64,
    local: &mut bool,
) -> bool {
    if includes(record, earlier, context, address, local) {
        return true;
    }
    let covered = match (record.access.scope(), earlier.access.scope()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(new), Some(old)) => {
            (record.block == earlier.block && old >= new)
                || (old >= Scope::Gpu && new >= Scope::Gpu)
        }
    };
    covered
        && (record.access.writes() || !earlier.access.writes())
        && matches!(context.ordered(earlier, record, 0..4), (true, true))
}
