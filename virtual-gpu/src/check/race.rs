//! Data races, found by happens-before.
//!
//! The executor interleaves warps one instruction at a time, so a missing barrier seldom shows as a wrong value. A race
//! is found anyway: every access leaves a record in a shadow of the memory, every synchronisation moves knowledge
//! between the clocks of warps, and an access conflicts with a record that its warp does not know to be over, unless
//! both only read or both are strong enough (PTX ISA, "Memory Consistency Model"). The method is that of FastTrack
//! (Flanagan and Freund, 2009) with the warp as the unit of concurrency; inside a warp, lanes are ordered by what
//! synchronises them, so that a missing `__syncwarp` is found too.
//!
//! Some simplifications make the detector miss defects, none makes it invent one: a release, a fence or a wait for
//! copies by one lane counts for the whole warp; every fence counts as `fence.sc` (a fence before a barrier serves a
//! relaxed store after it); whoever starts a copy hands what it knows on to those who wait for the copy at an mbarrier;
//! after two ordered atomics of device scope the older one is forgotten, even for a later one of block scope. Strong
//! accesses of different sizes to one location count as morally strong.
//!
//! Stores of equal values do not race with each other: compilers let threads that hold copies of a value all store it,
//! and whichever store comes last, memory holds it.

use std::collections::HashMap;

use super::clock::{Layout, Parcel, PerWarp, WarpClock};
use super::granule::Shadow;
use super::log::Log;
pub use super::pattern::LaneAccess;
use super::pattern::{Lanes, Pattern};
pub use super::record::{Access, ConflictKind, Scope};
use super::record::{Agent, Context, Record};
pub use super::sync::Bar;
use super::sync::{Groups, Location, Mbarrier, Rendezvous};
use super::table::Tables;
use super::walk::Walk;

/// A warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// Number of the block within the grid.
    pub block: u32,
    /// Number of the warp within its block.
    pub warp: u32,
}

/// A use of the shared memory of another block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Who makes it.
    pub who: Actor,
    /// The lane that does.
    pub lane: u32,
    /// Its instruction.
    pub pc: u32,
}

/// A memory with offsets from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Shared memory of a block, static and dynamic.
    Shared(u32),
    /// A global allocation, by its index.
    Global(u32),
}

/// Where an asynchronous copy reads or writes.
#[derive(Clone, Copy, Debug)]
pub enum Footprint<'a> {
    /// One piece per lane (`cp.async`).
    Lanes(&'a LaneAccess<'a>),
    /// Consecutive bytes, by a copy that one lane started (`cp.async.bulk`).
    Bytes {
        /// The lane that started the copy.
        lane: u32,
        /// First byte.
        start: u64,
        /// Number of bytes.
        bytes: u64,
    },
}

/// What tells that an asynchronous copy is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// `cp.async.wait_group`, or an mbarrier through `cp.async.mbarrier.arrive`.
    CpAsync,
    /// `cp.async.bulk.wait_group`.
    Bulk,
    /// The current phase of an mbarrier, by complete-tx.
    Mbarrier(Bar),
    /// The same for a store, which goes through the generic proxy (`st.async`).
    Store(Bar),
}

/// Two accesses that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What is wrong.
    pub kind: ConflictKind,
    /// First byte in question, as an offset within the space.
    pub start: u64,
    /// Number of bytes in question.
    pub bytes: u64,
    /// The lane that makes the access now.
    pub lane: u32,
    /// Both accesses are made by lanes of one warp.
    pub same_warp: bool,
    /// Instruction of the earlier access.
    pub other_pc: u32,
    /// Block of the earlier access.
    pub other_block: u32,
    /// Warp of the earlier access.
    pub other_warp: u32,
    /// Lane of the earlier access.
    pub other_lane: u32,
    /// What the earlier access did.
    pub other_access: Access,
    /// The earlier access was made by an asynchronous copy.
    pub other_async: bool,
}

/// Uses of a block's shared memory: home and component, value and place.
pub(super) type Visits = HashMap<(u32, u16), (u32, Visit)>;

#[derive(Default)]
pub(super) struct BlockState {
    pub warps: Vec<Option<Box<WarpClock>>>,
    pub groups: Vec<[Groups; 3]>,
    pub mbarriers: HashMap<u32, Mbarrier>,
    pub barriers: HashMap<u32, Parcel>,
}

/// The race detector of one launch.
pub struct Races {
    pub(super) layout: Layout,
    pub(super) blocks: Vec<Option<Box<BlockState>>>,
    pub(super) clusters: Vec<u32>,
    pub(super) rendezvous: HashMap<u32, Rendezvous>,
    pub(super) locations: HashMap<u64, Location>,
    /// By block: the last uses of its shared memory by others, by the component and value that tell that each is over.
    pub(super) visits: HashMap<u32, Visits>,
    shared: Vec<Shadow>,
    global: Vec<Shadow>,
    log: Log,
    tables: Tables,
}

impl Races {
    /// A detector for a grid of `blocks` blocks with `warps_per_block` warps each. Nothing has happened yet: what the
    /// host or earlier launches wrote is ordered before everything. Block and warp numbers in events must be below
    /// these bounds, and offsets must lie within their memory: check bounds first.
    pub fn new(blocks: u32, warps_per_block: u32) -> Self {
        let mut states = Vec::new();
        states.resize_with(blocks as usize, || None);
        Self {
            layout: Layout {
                warps: warps_per_block,
            },
            blocks: states,
            clusters: Vec::new(),
            rendezvous: HashMap::new(),
            locations: HashMap::new(),
            visits: HashMap::new(),
            shared: Vec::new(),
            global: Vec::new(),
            log: Log::new(),
            tables: Tables::new(),
        }
    }

    /// Says which cluster each block belongs to. Without this call every block is its own cluster.
    pub fn set_clusters(&mut self, cluster_of_block: Vec<u32>) {
        self.clusters = cluster_of_block;
    }

    /// A block has ended, and nobody can reach its shared memory any more. What it wrote to global memory stays known.
    pub fn finish_block(&mut self, block: u32) {
        if let Some(state) = self.blocks.get_mut(block as usize) {
            *state = None;
        }
        if let Some(shadow) = self.shared.get_mut(block as usize) {
            *shadow = Shadow::default();
        }
    }

    /// A warp makes an access through the generic proxy. Returns a conflict with an earlier access, the first one if
    /// there are several.
    pub fn access(
        &mut self,
        who: Actor,
        space: Space,
        pc: u32,
        access: Access,
        lanes: &LaneAccess,
    ) -> Option<Conflict> {
        let layout = self.layout;
        let clock = self.clock(who);
        clock.dirty = true;
        let record = Record {
            block: who.block,
            warp: who.warp as u16,
            component: layout.of(PerWarp::Time, who.warp),
            home: who.block,
            value: clock.now,
            time: clock.now,
            pc,
            lanes: Lanes::Mask(lanes.mask),
            access,
            agent: Agent::Warp,
        };
        self.make(who, space, record, &Footprint::Lanes(lanes))
    }

    /// An asynchronous copy that `who` starts now will write to `footprint`. Tell of it when it is started.
    pub fn async_write(
        &mut self,
        who: Actor,
        space: Space,
        pc: u32,
        footprint: &Footprint,
        completion: Completion,
    ) -> Option<Conflict> {
        let record = self.copy_record(who, pc, Access::Write, completion);
        self.make(who, space, record, footprint)
    }

    /// An asynchronous copy that `who` starts now will read from `footprint`. The source of a bulk copy with
    /// [`Completion::Bulk`] is free again after `wait_group.read` already.
    pub fn async_read(
        &mut self,
        who: Actor,
        space: Space,
        pc: u32,
        footprint: &Footprint,
        completion: Completion,
    ) -> Option<Conflict> {
        let record = self.copy_record(who, pc, Access::Read, completion);
        self.make(who, space, record, footprint)
    }

    /// An asynchronous reduction that `who` starts now will combine something with `footprint`, atomically.
    pub fn async_reduce(
        &mut self,
        who: Actor,
        space: Space,
        pc: u32,
        footprint: &Footprint,
        completion: Completion,
    ) -> Option<Conflict> {
        let record = self.copy_record(who, pc, Access::Atomic(Scope::Gpu), completion);
        self.make(who, space, record, footprint)
    }

    /// A product of the warpgroup whose first warp is `leader` will read `bytes` bytes at `start`, as of now.
    pub fn product_read(
        &mut self,
        who: Actor,
        leader: u32,
        space: Space,
        pc: u32,
        (start, bytes): (u64, u64),
    ) -> Option<Conflict> {
        let value = self.products(who).open;
        let component = self.layout.of(PerWarp::Products, leader);
        let clock = self.clock(who);
        clock.dirty = true;
        let record = Record {
            block: who.block,
            warp: who.warp as u16,
            component,
            home: who.block,
            value,
            time: clock.now,
            pc,
            lanes: Lanes::Mask(0),
            access: Access::Read,
            agent: Agent::Group(PerWarp::Products),
        };
        let footprint = Footprint::Bytes {
            lane: 0,
            start,
            bytes,
        };
        self.make(who, space, record, &footprint)
    }

    fn copy_record(
        &mut self,
        who: Actor,
        pc: u32,
        access: Access,
        completion: Completion,
    ) -> Record {
        let kind = match completion {
            Completion::CpAsync => Some(PerWarp::Copies),
            Completion::Bulk if access.writes() => Some(PerWarp::Bulk),
            Completion::Bulk => Some(PerWarp::BulkRead),
            Completion::Mbarrier(_) | Completion::Store(_) => None,
        };
        let (home, component, value, agent) = match (completion, kind) {
            (Completion::Mbarrier(bar), _) => {
                let (component, phase) = self.mbarrier_epoch(who, bar);
                (bar.block, component, phase, Agent::Mbarrier)
            }
            (Completion::Store(bar), _) => {
                let (component, phase) = self.mbarrier_epoch(who, bar);
                (bar.block, component, phase, Agent::Store)
            }
            (_, kind) => {
                let kind = kind.unwrap_or(PerWarp::Copies);
                let open = self.groups(who, kind != PerWarp::Copies).open;
                (
                    who.block,
                    self.layout.of(kind, who.warp),
                    open,
                    Agent::Group(kind),
                )
            }
        };
        let clock = self.clock(who);
        clock.dirty = true;
        let (block, warp, time) = (who.block, who.warp as u16, clock.now);
        Record {
            block,
            warp,
            component,
            home,
            value,
            time,
            pc,
            lanes: Lanes::Mask(0),
            access,
            agent,
        }
    }

    fn make(
        &mut self,
        who: Actor,
        space: Space,
        record: Record,
        footprint: &Footprint,
    ) -> Option<Conflict> {
        if self.log.is_full() || self.tables.is_full() {
            let shadows = (&mut self.shared, &mut self.global);
            self.log.compact(&mut self.tables, |visit| {
                shadows
                    .0
                    .iter_mut()
                    .for_each(|shadow| shadow.for_each(visit));
                shadows
                    .1
                    .iter_mut()
                    .for_each(|shadow| shadow.for_each(visit));
            });
        }
        let pattern = match *footprint {
            Footprint::Lanes(access) => Pattern::of(access),
            Footprint::Bytes { lane, start, bytes } => Pattern::Row {
                start,
                end: start.saturating_add(bytes),
                lanes: Lanes::Mask(1 << (lane & 31)),
            },
        };
        let pattern = match (pattern, footprint) {
            (Pattern::Scatter, Footprint::Lanes(access)) if access.is_of_words() => {
                Pattern::Table(self.tables.intern(access))
            }
            (pattern, _) => pattern,
        };
        let clock = self
            .blocks
            .get(who.block as usize)?
            .as_ref()?
            .warps
            .get(who.warp as usize)?
            .as_ref()?;
        let (shadows, at) = match space {
            Space::Shared(block) => (&mut self.shared, block as usize),
            Space::Global(index) => (&mut self.global, index as usize),
        };
        if shadows.len() <= at {
            shadows.resize_with(at + 1, Shadow::default);
        }
        let unchanged = match footprint {
            Footprint::Lanes(access) => access.unchanged && record.access.stores(),
            Footprint::Bytes { .. } => false,
        };
        let context = Context {
            unchanged,
            clock,
            layout: self.layout,
            clusters: &self.clusters,
            tables: &self.tables,
        };
        Walk::new(&mut self.log, &mut shadows[at], context, record).over(pattern, footprint)
    }
}
