//! The events that order accesses: barriers, release and acquire, fences, mbarriers, groups of copies.

use std::collections::{HashMap, VecDeque};

use super::clock::{LEVELS, Parcel, PerWarp, WarpClock, World};
use super::race::{Actor, BlockState, Races, Visit};
use super::record::Scope;

/// An mbarrier, by its place in the shared memory of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bar {
    /// The block whose shared memory holds it.
    pub block: u32,
    /// Byte offset in shared memory.
    pub address: u32,
}

/// What an mbarrier's phases have collected. Phases are counted from 1 over all initialisations of one address.
#[derive(Default)]
pub(super) struct Mbarrier {
    number: u32,
    /// Phases before the last `mbarrier.init`.
    base: u32,
    complete: u32,
    pending: Parcel,
    /// The last phases, newest last. A parity test can only mean one of the last two.
    done: VecDeque<(u32, Parcel)>,
}

/// The barrier of a cluster.
#[derive(Default)]
pub(super) struct Rendezvous {
    pending: Parcel,
    done: Parcel,
}

/// Groups of copies of a warp. The internal count also advances where an mbarrier starts to track copies.
pub(super) struct Groups {
    pub open: u32,
    ends: Vec<u32>,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            open: 1,
            ends: Vec::new(),
        }
    }
}

/// What has been released at an address, by who may acquire it.
#[derive(Default)]
pub(super) struct Location {
    last: Option<Actor>,
    /// What `last` published here itself: its later plain stores carry that on.
    own: [World; LEVELS],
    device: World,
    clusters: HashMap<u32, World>,
    blocks: HashMap<u32, World>,
}

/// No block: home of a parcel that belongs to several.
const NOWHERE: u32 = u32::MAX;

impl Races {
    fn block(&mut self, block: u32) -> &mut BlockState {
        let at = block as usize;
        if self.blocks.len() <= at {
            self.blocks.resize_with(at + 1, || None);
        }
        self.blocks[at].get_or_insert_default()
    }

    pub(super) fn clock(&mut self, who: Actor) -> &mut WarpClock {
        let layout = self.layout;
        let (block, at) = (self.block(who.block), who.warp as usize);
        if block.warps.len() <= at {
            block.warps.resize_with(at + 1, || None);
        }
        block.warps[at].get_or_insert_with(|| Box::new(WarpClock::new(who.block, who.warp, layout)))
    }

    /// Lanes of a warp that exist and have not exited; all 32 unless told otherwise.
    pub fn set_live(&mut self, who: Actor, lanes: u32) {
        self.clock(who).live = lanes;
    }

    /// The lanes of `mask` synchronise: `bar.warp.sync`, and every other `.sync` or `.aligned` instruction.
    pub fn warp_sync(&mut self, who: Actor, mask: u32) {
        self.clock(who).seal_lanes(mask);
    }

    /// All of `warps` have met at a barrier of their block.
    pub fn barrier(&mut self, block: u32, warps: &[u32]) {
        self.meet(block, Parcel::default(), warps);
    }

    /// A warp arrives at named barrier `id` and goes on (`bar.arrive`).
    pub fn barrier_arrive(&mut self, block: u32, warp: u32, id: u32) {
        let mut parcel = self.block(block).barriers.remove(&id).unwrap_or_default();
        parcel.deposit(self.clock(Actor { block, warp }), block);
        self.block(block).barriers.insert(id, parcel);
    }

    /// Named barrier `id` is complete, and `waiters` (those in `bar.sync` and `bar.red`) go on.
    pub fn barrier_complete(&mut self, block: u32, id: u32, waiters: &[u32]) {
        let parcel = self.block(block).barriers.remove(&id).unwrap_or_default();
        self.meet(block, parcel, waiters);
    }

    fn meet(&mut self, block: u32, mut parcel: Parcel, warps: &[u32]) {
        for &warp in warps {
            parcel.deposit(self.clock(Actor { block, warp }), block);
        }
        for &warp in warps {
            parcel.replace(self.clock(Actor { block, warp }));
        }
    }

    /// A warp arrives at the barrier of its cluster with release semantics (`barrier.cluster.arrive`).
    pub fn cluster_arrive(&mut self, who: Actor, cluster: u32) {
        let mut meeting = self.rendezvous.remove(&cluster).unwrap_or_default();
        meeting.pending.deposit(self.clock(who), NOWHERE);
        self.rendezvous.insert(cluster, meeting);
    }

    /// The same with relaxed semantics: only what a fence of this scope or a wider one has published goes along.
    pub fn cluster_arrive_relaxed(&mut self, who: Actor, cluster: u32, scope: Scope) {
        let mut meeting = self.rendezvous.remove(&cluster).unwrap_or_default();
        let clock = self.clock(who);
        meeting.pending.deposit_world(&clock.fenced[scope.level()]);
        self.rendezvous.insert(cluster, meeting);
    }

    /// All warps of the cluster have arrived.
    pub fn cluster_complete(&mut self, cluster: u32) {
        let meeting = self.rendezvous.entry(cluster).or_default();
        meeting.done = std::mem::take(&mut meeting.pending);
    }

    /// A warp has waited for the last completion, with acquire semantics (`barrier.cluster.wait`).
    pub fn cluster_wait(&mut self, who: Actor, cluster: u32) {
        let done = self
            .rendezvous
            .get(&cluster)
            .map(|meeting| meeting.done.clone())
            .unwrap_or_default();
        done.collect(self.clock(who), NOWHERE);
    }

    /// A warp uses the shared memory of block `target`, which is not its own.
    pub fn visit(&mut self, target: u32, visit: Visit) {
        let who = visit.who;
        let component = self.layout.of(PerWarp::Time, who.warp);
        let clock = self.clock(who);
        clock.dirty = true;
        let value = clock.now;
        let visits = self.visits.entry(target).or_default();
        visits.insert((who.block, component), (value, visit));
    }

    /// A copy that is started here writes to the shared memory of the mbarrier's block, which is not its own.
    pub fn visit_by_copy(&mut self, bar: Bar, visit: Visit) {
        let (component, phase) = self.mbarrier_epoch(visit.who, bar);
        let visits = self.visits.entry(bar.block).or_default();
        visits.insert((bar.block, component), (phase, visit));
    }

    /// Where others use the shared memory of a block of which no warp knows, now that it has ended, that this is over.
    pub fn open_visits(&mut self, block: u32) -> Vec<Visit> {
        let mut visits: Vec<_> = self.visits.remove(&block).into_iter().flatten().collect();
        visits.sort_by_key(|(_, (_, visit))| (visit.pc, visit.who.block, visit.who.warp));
        let state = self.block(block);
        let warps: Vec<&WarpClock> = state.warps.iter().flatten().map(|clock| &**clock).collect();
        let is_open = |((home, component), (value, _)): &((u32, u16), (u32, Visit))| {
            warps
                .iter()
                .all(|clock| clock.knows(*home, *component) < *value)
        };
        let open = visits.iter().filter(|visit| is_open(visit));
        open.map(|(_, (_, visit))| *visit).collect()
    }

    fn cluster_of(&self, block: u32) -> Option<u32> {
        self.clusters.get(block as usize).copied()
    }

    /// Publishes one world per level at a location. `rmw`: what was published before stays.
    fn post(&mut self, who: Actor, loc: u64, rmw: bool, worlds: [World; LEVELS]) {
        let cluster = self.cluster_of(who.block);
        let location = self.locations.entry(loc).or_default();
        if location.last != Some(who) {
            location.own = Default::default();
        }
        let mut own = std::mem::take(&mut location.own);
        own.iter_mut()
            .zip(&worlds)
            .for_each(|(own, world)| _ = own.join(world));
        if !rmw {
            *location = Location::default();
        }
        location.last = Some(who);
        location.own = own;
        let [narrow, middle, wide] = &location.own;
        let own = location.blocks.entry(who.block).or_default();
        // Whoever has published something at a level has published at least that below it.
        own.join(narrow);
        if let Some(cluster) = cluster {
            let own = location.clusters.entry(cluster).or_default();
            own.join(middle);
        }
        location.device.join(wide);
    }

    /// What an operation of this level may learn from a location, by how far it was published.
    fn read(&self, who: Actor, loc: u64, level: usize) -> [World; LEVELS] {
        let mut worlds = <[World; LEVELS]>::default();
        if let Some(location) = self.locations.get(&loc) {
            worlds[0] = location.blocks.get(&who.block).cloned().unwrap_or_default();
            if let Some(cluster) = self.cluster_of(who.block).filter(|_| level >= 1) {
                worlds[1] = location.clusters.get(&cluster).cloned().unwrap_or_default();
            }
            if level >= 2 {
                worlds[2] = location.device.clone();
            }
        }
        worlds
    }

    /// A store or read-modify-write with release semantics. `loc` is any key that is the same for the same bytes; `rmw`
    /// continues the release sequence of the location.
    pub fn release(&mut self, who: Actor, loc: u64, scope: Scope, rmw: bool) {
        let world = self.clock(who).publish();
        let mut worlds = <[World; LEVELS]>::default();
        worlds[..=scope.level()].fill(world);
        self.post(who, loc, rmw, worlds);
    }

    /// A load or read-modify-write with acquire semantics. Of an `acq_rel` operation tell the acquire first.
    pub fn acquire(&mut self, who: Actor, loc: u64, scope: Scope) {
        let worlds = self.read(who, loc, scope.level());
        let clock = self.clock(who);
        worlds.iter().for_each(|world| clock.learn(world));
    }

    /// A relaxed or volatile store, or a relaxed atomic (`rmw`): publishes the knowledge as of earlier fences.
    pub fn relaxed_store(&mut self, who: Actor, loc: u64, scope: Scope, rmw: bool) {
        let mut worlds = self.clock(who).fenced.clone();
        worlds[scope.level() + 1..].fill(World::default());
        self.post(who, loc, rmw, worlds);
    }

    /// A relaxed or volatile load, or the load of a relaxed atomic: a fence after it acquires what it has seen.
    pub fn relaxed_load(&mut self, who: Actor, loc: u64, scope: Scope) {
        let worlds = self.read(who, loc, scope.level());
        let clock = self.clock(who);
        for (heard, world) in clock.heard.iter_mut().zip(&worlds) {
            heard.join(world);
        }
    }

    /// `fence.sc`, `fence.acq_rel`, `membar`.
    pub fn fence(&mut self, who: Actor, scope: Scope) {
        let clock = self.clock(who);
        for level in 0..=scope.level() {
            let heard = std::mem::take(&mut clock.heard[level]);
            clock.learn(&heard);
        }
        let world = clock.publish();
        for fenced in &mut clock.fenced[..=scope.level()] {
            fenced.join(&world);
        }
    }

    /// `fence.proxy.async`.
    pub fn proxy_fence(&mut self, who: Actor) {
        self.clock(who).proxy_fence();
    }

    fn mbarrier(&mut self, bar: Bar) -> &mut Mbarrier {
        let bars = &mut self.block(bar.block).mbarriers;
        let number = bars.len() as u32;
        bars.entry(bar.address).or_insert_with(|| Mbarrier {
            number,
            ..Mbarrier::default()
        })
    }

    /// `mbarrier.init`: phase 0 is current again. Ordering the others after it is up to the kernel.
    pub fn mbarrier_init(&mut self, bar: Bar) {
        let bar = self.mbarrier(bar);
        bar.base = bar.complete;
        bar.pending = Parcel::default();
        bar.done.clear();
    }

    fn with_pending(
        &mut self,
        who: Actor,
        bar: Bar,
        add: impl FnOnce(&mut Parcel, &mut WarpClock),
    ) {
        let mut parcel = std::mem::take(&mut self.mbarrier(bar).pending);
        add(&mut parcel, self.clock(who));
        self.mbarrier(bar).pending = parcel;
    }

    /// A warp arrives; `release` is false for `.relaxed`.
    pub fn mbarrier_arrive(&mut self, who: Actor, bar: Bar, release: bool) {
        if release {
            self.with_pending(who, bar, |parcel, clock| parcel.deposit(clock, bar.block));
        }
    }

    /// `cp.async.mbarrier.arrive`: the copies that the warp has started so far arrive when they are complete.
    pub fn cp_async_mbarrier_arrive(&mut self, who: Actor, bar: Bar) {
        let groups = self.groups(who, false);
        let group = groups.open;
        groups.open += 1;
        let component = self.layout.of(PerWarp::Copies, who.warp);
        self.with_pending(who, bar, |parcel, clock| {
            parcel.deposit_known(clock, bar.block);
            if who.block == bar.block {
                parcel.raise(component, group);
            }
        });
    }

    /// The current phase is complete, and the next one begins.
    pub fn mbarrier_phase_complete(&mut self, bar: Bar) {
        let layout = self.layout;
        let state = self.mbarrier(bar);
        state.complete += 1;
        let mut parcel = std::mem::take(&mut state.pending);
        parcel.raise(layout.mbarrier(state.number), state.complete);
        state.done.push_back((state.complete, parcel));
        if state.done.len() > 4 {
            state.done.pop_front();
        }
    }

    /// A warp has seen that `phase` is complete, with phases counted from 0 since `mbarrier.init`; `acquire` is false
    /// for `.relaxed`.
    pub fn mbarrier_observe(&mut self, who: Actor, bar: Bar, phase: u32, acquire: bool) {
        let state = self.mbarrier(bar);
        let phase = state.base.wrapping_add(phase).wrapping_add(1);
        let done = std::mem::take(&mut state.done);
        if let Some((_, parcel)) = done.iter().find(|(complete, _)| *complete == phase) {
            let clock = self.clock(who);
            if acquire {
                parcel.collect(clock, bar.block);
            } else {
                parcel.overhear(clock, bar.block);
            }
        }
        self.mbarrier(bar).done = done;
    }

    /// Component and value that stand for the current phase. What the warp that starts a copy knows is handed on with
    /// the copy.
    pub(super) fn mbarrier_epoch(&mut self, who: Actor, bar: Bar) -> (u16, u32) {
        self.with_pending(who, bar, |parcel, clock| {
            parcel.deposit_known(clock, bar.block)
        });
        let layout = self.layout;
        let state = self.mbarrier(bar);
        (layout.mbarrier(state.number), state.complete + 1)
    }

    pub(super) fn groups(&mut self, who: Actor, bulk: bool) -> &mut Groups {
        let (block, at) = (self.block(who.block), who.warp as usize);
        if block.groups.len() <= at {
            block.groups.resize_with(at + 1, Default::default);
        }
        &mut block.groups[at][bulk as usize]
    }

    /// Groups of products of the warpgroup.
    pub(super) fn products(&mut self, who: Actor) -> &mut Groups {
        self.groups(who, false);
        &mut self.block(who.block).groups[who.warp as usize][2]
    }

    /// `wgmma.commit_group`.
    pub fn product_commit(&mut self, who: Actor) {
        self.products(who).commit();
    }

    /// The warp has waited until the first `upto` groups of products that it committed are complete; `leader` is the
    /// first warp of its warpgroup, all of whose warps have the same groups.
    pub fn product_wait(&mut self, who: Actor, leader: u32, upto: u32) {
        if let Some(end) = self.products(who).end(upto) {
            self.clock(who).note_products(leader, end);
        }
    }

    /// `cp.async.commit_group`.
    pub fn async_commit_group(&mut self, who: Actor) {
        self.groups(who, false).commit();
    }

    /// The warp has waited until the first `upto` groups that it committed are complete. Groups that are empty count.
    pub fn async_wait_group(&mut self, who: Actor, upto: u32) {
        if let Some(end) = self.groups(who, false).end(upto) {
            self.clock(who).note_wait(PerWarp::Copies, end);
        }
    }

    /// `cp.async.bulk.commit_group`.
    pub fn bulk_commit_group(&mut self, who: Actor) {
        self.groups(who, true).commit();
    }

    /// The warp has waited for the first `upto` bulk groups that it committed; with `read` only until they have read
    /// their sources.
    pub fn bulk_wait_group(&mut self, who: Actor, upto: u32, read: bool) {
        if let Some(end) = self.groups(who, true).end(upto) {
            let clock = self.clock(who);
            clock.note_wait(PerWarp::BulkRead, end);
            if !read {
                clock.note_wait(PerWarp::Bulk, end);
            }
        }
    }
}

impl Groups {
    fn commit(&mut self) {
        self.ends.push(self.open);
        self.open += 1;
    }

    fn end(&self, upto: u32) -> Option<u32> {
        let count = (upto as usize).min(self.ends.len());
        self.ends[..count].last().copied()
    }
}
