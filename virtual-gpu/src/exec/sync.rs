//! What the race detector sees: accesses, barriers, fences and ordered accesses.

use super::address::Use;
use super::agent::{self, Place};
use super::cluster::Holder;
use super::grid::Grid;
use super::machine::{Lanes, Machine, Site};
use super::observe::Written;
use super::products::WARPS;
use super::program::{Access, Order, Scope};
use super::row::LANES;
use super::warp::State;
use crate::check::finding::{FindingKind, MemorySpace, Other};
use crate::check::race::{
    self, Actor, Bar, Completion, Conflict, ConflictKind, Footprint, LaneAccess, Space,
};

impl From<Scope> for race::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Cta => Self::Cta,
            Scope::Cluster => Self::Cluster,
            Scope::Gpu => Self::Gpu,
            Scope::System => Self::Sys,
        }
    }
}

impl Grid {
    /// A phase of an mbarrier of `block` is complete, by an arrival or by a copy.
    pub fn note_mbarrier_phase(&mut self, block: u32, address: u32) {
        if let Some(races) = &mut self.races {
            races.mbarrier_phase_complete(Bar { block, address });
        }
    }
}

impl Machine<'_> {
    /// The running warp.
    pub fn actor(&self) -> Actor {
        Actor {
            block: self.block.index,
            warp: self.warp.index,
        }
    }

    /// The active lanes make an access at `offsets` of `space`; `written` is what they write.
    pub fn note_access(
        &mut self,
        space: Space,
        offsets: &[u64; LANES],
        access: &Access,
        bytes: usize,
        kind: Use,
        written: Option<&Written>,
    ) {
        let (who, pc, mask) = (self.actor(), self.pc, self.mask);
        let strong = match access.order {
            Order::Weak => None,
            Order::Volatile => Some(race::Scope::Sys),
            _ => Some(access.scope.into()),
        };
        let act = match (kind, strong) {
            (Use::Read, None) => race::Access::Read,
            (Use::Read, Some(scope)) => race::Access::StrongRead(scope),
            (Use::Write, None) => race::Access::Write,
            (Use::Write, Some(scope)) => race::Access::StrongWrite(scope),
            (Use::Atomic, scope) => race::Access::Atomic(scope.unwrap_or(race::Scope::Gpu)),
        };
        let Some(races) = &mut self.grid.races else {
            return;
        };
        let lanes = LaneAccess {
            addresses: offsets,
            mask,
            bytes: bytes as u32,
            collective: access.collective,
            values: written.map(|written| &written.digests),
            unchanged: written.is_some_and(|written| written.unchanged),
        };
        let conflict = match (access.asynchronous, kind) {
            (false, _) => races.access(who, space, pc, act, &lanes),
            (true, Use::Read) => races.async_read(
                who,
                space,
                pc,
                &Footprint::Lanes(&lanes),
                Completion::CpAsync,
            ),
            (true, _) => races.async_write(
                who,
                space,
                pc,
                &Footprint::Lanes(&lanes),
                Completion::CpAsync,
            ),
        };
        // A fence and the store that publishes it are a pattern of which the store is part: who acquires what was
        // published knows of the store too. Fencing again says that, as long as nothing else came between.
        if let Some(scope) = self.warp.fenced.take()
            && kind != Use::Read
            && act != race::Access::Write
        {
            races.fence(who, scope.into());
        }
        if strong.is_some() || kind == Use::Atomic {
            self.note_order(space, offsets, access, kind);
        }
        if let Some(conflict) = conflict {
            self.report_conflict(space, kind, conflict);
        }
    }

    /// Ordered accesses publish or acquire what their warps know, at each place that they touch.
    fn note_order(&mut self, space: Space, offsets: &[u64; LANES], access: &Access, kind: Use) {
        let who = self.actor();
        let scope = access.scope.into();
        let Some(races) = &mut self.grid.races else {
            return;
        };
        let key = |offset: u64| match space {
            Space::Shared(block) => 1 << 63 | u64::from(block) << 32 | offset,
            Space::Global(allocation) => u64::from(allocation) << 40 | offset,
        };
        let mut seen = [0; LANES];
        let mut count = 0;
        for lane in Lanes(self.mask) {
            let place = key(offsets[lane]);
            if seen[..count].contains(&place) {
                continue;
            }
            seen[count] = place;
            count += 1;
            if kind != Use::Write {
                match access.order {
                    Order::Acquire | Order::AcquireRelease => races.acquire(who, place, scope),
                    _ => races.relaxed_load(who, place, scope),
                }
            }
            if kind != Use::Read {
                let rmw = kind == Use::Atomic;
                match access.order {
                    Order::Release | Order::AcquireRelease => races.release(who, place, scope, rmw),
                    _ => races.relaxed_store(who, place, scope, rmw),
                }
            }
        }
    }

    #[cold]
    pub(super) fn report_conflict(&mut self, space: Space, kind: Use, conflict: Conflict) {
        let (finding, memory, name) = match (conflict.kind, space) {
            (ConflictKind::MissingProxyFence, Space::Shared(_)) => (
                FindingKind::MissingProxyFence,
                MemorySpace::Shared,
                "shared memory".to_string(),
            ),
            (ConflictKind::MissingProxyFence, Space::Global(index)) => (
                FindingKind::MissingProxyFence,
                MemorySpace::Global,
                self.allocation_name(index),
            ),
            (_, Space::Shared(_)) => (
                FindingKind::RaceShared,
                MemorySpace::Shared,
                "shared memory".to_string(),
            ),
            (_, Space::Global(index)) => (
                FindingKind::RaceGlobal,
                MemorySpace::Global,
                self.allocation_name(index),
            ),
        };
        let agent = if conflict.other_async {
            "asynchronous "
        } else {
            ""
        };
        let who = if conflict.same_warp {
            format!("lane {} of this warp", conflict.other_lane)
        } else {
            format!(
                "block {} warp {} lane {}",
                conflict.other_block, conflict.other_warp, conflict.other_lane
            )
        };
        let (other_source, _) = self.grid.source(conflict.other_pc);
        let place = other_source
            .as_ref()
            .map_or(String::new(), |source| format!(" at {source}"));
        let cure = match finding {
            FindingKind::MissingProxyFence => "fence.proxy.async must stand between them",
            _ if conflict.same_warp => "no __syncwarp orders them",
            _ => "nothing orders them",
        };
        let message = format!(
            "{} of {} bytes at offset {} of {name} meets the {agent}{} by {who}{place}: {cure}",
            kind.name(),
            conflict.bytes,
            conflict.start,
            conflict.other_access.name(),
        );
        let other = Other::Access {
            access: format!("{agent}{}", conflict.other_access.name()),
            source: other_source,
            ptx_line: self.grid.program.origins[conflict.other_pc as usize].ptx_line,
            block: self.grid.coordinates(conflict.other_block),
            warp: conflict.other_warp,
            lane: conflict.other_lane,
        };
        let site = Site {
            pc: self.pc,
            block: self.block.index,
            warp: self.warp.index,
            lane: conflict.lane,
        };
        self.grid.report(
            finding,
            memory,
            site,
            message,
            Some((conflict.other_pc, other)),
        );
    }

    fn allocation_name(&self, index: u32) -> String {
        format!(
            "the allocation {}",
            self.grid.memory.allocation(index as usize).label()
        )
    }

    /// The warp arrives at barrier `id`.
    pub fn note_arrival(&mut self, id: usize) {
        let who = self.actor();
        if let Some(races) = &mut self.grid.races {
            races.warp_sync(who, self.mask);
            races.barrier_arrive(who.block, who.warp, id as u32);
        }
    }

    /// Barrier `id` is complete; those who wait at it go on, and the running warp if it `waits`.
    pub fn note_completion(&mut self, id: usize, waits: bool) {
        let Some(races) = &mut self.grid.races else {
            return;
        };
        let at = |state: &State| matches!(state, State::Barrier { id: at } if *at as usize == id);
        let waiting = self
            .block
            .warps
            .iter()
            .filter(|warp| warp.fragments.iter().any(|f| at(&f.state)));
        let mut waiters: Vec<u32> = waiting.map(|warp| warp.index).collect();
        if waits || self.warp.fragments.iter().any(|f| at(&f.state)) {
            waiters.push(self.warp.index);
        }
        races.barrier_complete(self.block.index, id as u32, &waiters);
    }

    /// The active lanes have synchronised.
    #[inline(always)]
    pub fn note_warp_sync(&mut self) {
        if self.grid.races.is_some() {
            self.seal_lanes();
        }
    }

    #[inline(never)]
    fn seal_lanes(&mut self) {
        let (who, mask) = (self.actor(), self.mask);
        if let Some(races) = &mut self.grid.races {
            races.warp_sync(who, mask);
        }
    }

    /// Lanes of the warp have ended.
    pub fn note_exit(&mut self) {
        let (who, alive) = (self.actor(), self.warp.alive());
        if let Some(races) = &mut self.grid.races
            && alive != 0
        {
            races.set_live(who, alive);
        }
    }

    /// The warp has executed a fence.
    pub fn note_fence(&mut self, scope: Scope) {
        let who = self.actor();
        self.warp.fenced = Some(scope);
        if let Some(races) = &mut self.grid.races {
            races.fence(who, scope.into());
        }
    }

    /// The active lanes have closed a group of `cp.async`.
    pub fn note_copy_commit(&mut self) {
        let who = self.actor();
        if let Some(races) = &mut self.grid.races {
            races.async_commit_group(who);
        }
    }

    /// The first `groups` groups of `cp.async` that the warp has closed are complete, and their lanes know it.
    pub fn note_copy_wait(&mut self, groups: u32) {
        let who = self.actor();
        if let Some(races) = &mut self.grid.races {
            races.async_wait_group(who, groups);
        }
    }

    /// A lane starts a copy that reads, writes or combines with these places, each with its bytes.
    pub fn note_async(
        &mut self,
        places: &[(Place, u32, Use)],
        completion: agent::Completion,
        lane: u32,
    ) {
        let who = self.actor();
        let completion = match completion {
            agent::Completion::Mbarrier(bar) => Completion::Mbarrier(bar),
            agent::Completion::Group(_) => Completion::Bulk,
        };
        if let Completion::Mbarrier(bar) = completion
            && bar.block != who.block
        {
            let visit = self.visit(lane as usize);
            if let Some(races) = &mut self.grid.races {
                races.visit_by_copy(bar, visit);
            }
        }
        self.note_places(places, completion, lane);
    }

    /// A lane starts a store that an mbarrier counts.
    pub fn note_store(
        &mut self,
        place: Place,
        bytes: u32,
        kind: Use,
        completion: agent::Completion,
        lane: u32,
    ) {
        let agent::Completion::Mbarrier(bar) = completion else {
            return;
        };
        if bar.block != self.block.index {
            let visit = self.visit(lane as usize);
            if let Some(races) = &mut self.grid.races {
                races.visit_by_copy(bar, visit);
            }
        }
        self.note_places(&[(place, bytes, kind)], Completion::Store(bar), lane);
    }

    fn note_places(&mut self, places: &[(Place, u32, Use)], completion: Completion, lane: u32) {
        let (who, pc) = (self.actor(), self.pc);
        for (place, bytes, kind) in places {
            let place = match *place {
                Place::Shared { block, offset } => Some((Space::Shared(block), u64::from(offset))),
                Place::Global(address) => self
                    .allocation_offset(address)
                    .map(|(index, at)| (Space::Global(index as u32), at as u64)),
            };
            let (Some((space, start)), Some(races)) = (place, &mut self.grid.races) else {
                continue;
            };
            let bytes = u64::from(*bytes);
            let footprint = Footprint::Bytes { lane, start, bytes };
            let conflict = match kind {
                Use::Read => races.async_read(who, space, pc, &footprint, completion),
                Use::Write => races.async_write(who, space, pc, &footprint, completion),
                Use::Atomic => races.async_reduce(who, space, pc, &footprint, completion),
            };
            if let Some(conflict) = conflict {
                self.report_conflict(space, *kind, conflict);
            }
        }
    }

    /// A product of the warp's group will read shared memory of the block.
    pub fn note_product_read(&mut self, start: u32, bytes: u32) {
        let (who, pc) = (self.actor(), self.pc);
        let space = Space::Shared(who.block);
        let range = (u64::from(start), u64::from(bytes));
        if let Some(races) = &mut self.grid.races
            && let Some(conflict) =
                races.product_read(who, who.warp / WARPS * WARPS, space, pc, range)
        {
            self.report_conflict(space, Use::Read, conflict);
        }
    }

    /// The active lanes have closed a group of bulk copies.
    pub fn note_bulk_commit(&mut self) {
        let who = self.actor();
        if let Some(races) = &mut self.grid.races {
            races.bulk_commit_group(who);
        }
    }

    /// The first `groups` groups of bulk copies that the warp has closed are complete, or have only read their
    /// sources, and their lanes know it.
    pub fn note_bulk_wait(&mut self, groups: u32, read: bool) {
        let who = self.actor();
        if let Some(races) = &mut self.grid.races {
            races.bulk_wait_group(who, groups, read);
        }
    }

    /// An mbarrier of the block.
    fn bar(&self, address: u32) -> Bar {
        Bar {
            block: self.block.index,
            address,
        }
    }

    /// An mbarrier has been initialised.
    pub fn note_mbarrier_init(&mut self, address: u32) {
        let bar = self.bar(address);
        if let Some(races) = &mut self.grid.races {
            races.mbarrier_init(bar);
        }
    }

    /// The warp arrives at an mbarrier, by `lane`: before the arrival is counted.
    pub fn note_mbarrier_arrive(
        &mut self,
        holder: Holder,
        address: u32,
        lane: usize,
        release: bool,
    ) {
        self.note_visit(holder, lane);
        let bar = Bar {
            block: self.index_of(holder),
            address,
        };
        let who = self.actor();
        if let Some(races) = &mut self.grid.races {
            races.mbarrier_arrive(who, bar, release);
        }
    }

    /// The `cp.async` that the warp has started will arrive at an mbarrier.
    pub fn note_copies_arrive(&mut self, address: u32) {
        let (who, bar) = (self.actor(), self.bar(address));
        if let Some(races) = &mut self.grid.races {
            races.cp_async_mbarrier_arrive(who, bar);
        }
    }

    /// The warp has seen that the first `phases` phases of an mbarrier are over.
    pub fn note_mbarrier_observed(&mut self, address: u32, phases: u32, acquire: bool) {
        let (who, bar) = (self.actor(), self.bar(address));
        if let (Some(races), Some(phase)) = (&mut self.grid.races, phases.checked_sub(1)) {
            races.mbarrier_observe(who, bar, phase, acquire);
        }
    }

    /// The warp has executed `fence.proxy.async`.
    pub fn note_proxy_fence(&mut self) {
        let who = self.actor();
        if let Some(races) = &mut self.grid.races {
            races.proxy_fence(who);
        }
    }
}
