//! Clusters: blocks that run together, reach each other's shared memory and meet at a barrier of their own.
//!
//! Addresses of `shared::cluster` have the rank of their block, plus 1, above the 24 bits of an offset. An offset without
//! a rank is one of the block that uses it, so that addresses of `shared::cta` are addresses of `shared::cluster` too.

use super::block::Block;
use super::grid::Grid;
use super::machine::{Lanes, Machine, Site};
use super::program::Scope;
use super::row::LANES;
use super::warp::Warp;
use crate::check::finding::{FindingKind, MemorySpace, Other};
use crate::check::race::Visit;
use crate::memory::SHARED_BASE;

/// Addresses of the shared memory of one block.
const REACH: u32 = 1 << 24;

/// The address in `shared::cluster` that stands for `address` in the block with this rank.
pub fn map(address: u32, rank: u32) -> u32 {
    // A rank that no cluster has stays one that no cluster has.
    (rank.min(254) + 1) * REACH + address % REACH
}

/// [`map`] for generic addresses; what is not in shared memory has no counterpart.
pub fn map_generic(address: u64, rank: u32) -> u64 {
    match crate::memory::Window::of(address) {
        crate::memory::Window::Shared(offset) => SHARED_BASE + u64::from(map(offset, rank)),
        _ => 0,
    }
}

/// The offset in the shared memory of one block.
pub fn offset(address: u32) -> u32 {
    address % REACH
}

/// The rank that an address names; `None` for the block that uses it.
pub fn rank_of(address: u32) -> Option<u32> {
    (address / REACH).checked_sub(1)
}

/// Blocks of a cluster, by dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape(pub [u32; 3]);

impl Shape {
    /// Blocks of a cluster.
    pub fn blocks(self) -> u32 {
        self.0.iter().product()
    }

    /// Linear index of the block that comes `n`th if clusters come one after the other, each by rising rank.
    pub fn nth(self, n: u64, grid: [u32; 3]) -> u32 {
        let size = u64::from(self.blocks());
        let cluster = (n / size) as u32;
        let [nx, ny, _] = self.clusters(grid);
        let first = [cluster % nx, cluster / nx % ny, cluster / nx / ny];
        let first = std::array::from_fn(|axis| first[axis] * self.0[axis]);
        self.member(first, (n % size) as u32, grid)
    }

    /// Linear index of the block with this rank in the cluster of the block at `coordinates`.
    pub fn member(self, coordinates: [u32; 3], rank: u32, grid: [u32; 3]) -> u32 {
        let [cx, cy, _] = self.0;
        let inner = [rank % cx, rank / cx % cy, rank / cx / cy];
        let at = |axis: usize| coordinates[axis] / self.0[axis] * self.0[axis] + inner[axis];
        at(0) + grid[0] * (at(1) + grid[1] * at(2))
    }

    /// Clusters of a grid, by dimension.
    pub fn clusters(self, grid: [u32; 3]) -> [u32; 3] {
        std::array::from_fn(|axis| grid[axis] / self.0[axis])
    }

    /// Index of the cluster of a block, by dimension.
    pub fn id(self, coordinates: [u32; 3]) -> [u32; 3] {
        std::array::from_fn(|axis| coordinates[axis] / self.0[axis])
    }

    /// Linear index of the cluster of a block.
    pub fn number(self, coordinates: [u32; 3], grid: [u32; 3]) -> u32 {
        let ([x, y, z], [nx, ny, _]) = (self.id(coordinates), self.clusters(grid));
        x + nx * (y + ny * z)
    }

    /// Index of a block in its cluster, by dimension.
    pub fn place(self, coordinates: [u32; 3]) -> [u32; 3] {
        std::array::from_fn(|axis| coordinates[axis] % self.0[axis])
    }

    /// Rank of a block in its cluster.
    pub fn rank(self, coordinates: [u32; 3]) -> u32 {
        let ([x, y, z], [cx, cy, _]) = (self.place(coordinates), self.0);
        x + cx * (y + cy * z)
    }
}

/// The barrier of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meeting {
    /// Threads that have not ended.
    alive: u32,
    /// Those of them that have arrived.
    arrived: u32,
    /// Times that all have arrived.
    pub phase: u32,
}

impl Meeting {
    /// Whether all have arrived; if so, the next phase begins.
    fn completes(&mut self) -> bool {
        let complete = self.alive > 0 && self.arrived == self.alive;
        if complete {
            self.arrived = 0;
            self.phase += 1;
        }
        complete
    }
}

/// Arrivals of a warp at the barrier of its cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrivals {
    /// Lanes that have arrived and have not waited since.
    pub lanes: u32,
    /// The phase in which each of them arrived.
    phases: [u32; LANES],
}

impl Arrivals {
    /// The last phase in which one of `lanes` arrived.
    fn last(&self, lanes: u32) -> u32 {
        Lanes(lanes)
            .map(|lane| self.phases[lane])
            .max()
            .unwrap_or(0)
    }

    fn in_phase(&self, lanes: u32, phase: u32) -> u32 {
        let here = |lane: &usize| self.phases[*lane] == phase;
        Lanes(lanes & self.lanes).filter(here).count() as u32
    }
}

/// Whose shared memory an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The running block's.
    Own,
    /// That of another block of the cluster, by index among the peers.
    Peer(usize),
}

impl Grid {
    /// Linear index of the cluster of a block.
    pub fn cluster_of(&self, block: &Block) -> u32 {
        self.cluster.number(block.coordinates, self.config.grid)
    }

    /// Threads of a block have started.
    pub fn join_cluster(&mut self, block: &Block) {
        let number = self.cluster_of(block);
        self.meetings.entry(number).or_default().alive += block.threads;
    }

    /// Lanes of a warp have ended: nobody waits for them any more.
    fn leave_cluster(&mut self, block: &Block, warp: &Warp, lanes: u32) {
        let number = self.cluster_of(block);
        let Some(meeting) = self.meetings.get_mut(&number) else {
            return;
        };
        meeting.alive -= lanes.count_ones();
        meeting.arrived -= warp.arrivals.in_phase(lanes, meeting.phase);
        if meeting.completes()
            && let Some(races) = &mut self.races
        {
            races.cluster_complete(number);
        }
    }

    /// Whether the barrier of the block's cluster has completed the phase.
    pub fn cluster_has_met(&self, block: &Block, phase: u32) -> bool {
        let meeting = self.meetings.get(&self.cluster_of(block));
        meeting.is_none_or(|meeting| meeting.phase > phase)
    }

    /// What those wait for who wait at the barrier of the block's cluster.
    pub fn describe_meeting(&self, block: &Block) -> String {
        let number = self.cluster_of(block);
        let meeting = self.meetings.get(&number).copied().unwrap_or_default();
        format!(
            "waits at the barrier of cluster {number}, where {} of {} threads have arrived",
            meeting.arrived, meeting.alive
        )
    }

    /// Does something with the block of this linear index: the running one or one of its peers.
    pub fn with_block<T>(
        &mut self,
        running: &mut Block,
        index: u32,
        act: impl FnOnce(&mut Grid, &mut Block) -> T,
    ) -> Option<T> {
        if index == running.index {
            return Some(act(self, running));
        }
        let at = self.peers.iter().position(|peer| peer.index == index)?;
        let mut peer = std::mem::take(&mut self.peers[at]);
        let result = act(self, &mut peer);
        self.peers[at] = peer;
        Some(result)
    }

    /// A word of the shared memory of a cluster, if there is one at this address.
    pub fn peek_shared<'a>(
        &'a self,
        block: &'a Block,
        address: u32,
        bytes: usize,
    ) -> Option<&'a [u8]> {
        let holder = match rank_of(address) {
            Some(rank) if rank != self.cluster.rank(block.coordinates) => self
                .peers
                .iter()
                .find(|peer| self.cluster.rank(peer.coordinates) == rank)?,
            _ => block,
        };
        holder
            .shared
            .as_slice()
            .get(offset(address) as usize..)?
            .get(..bytes)
    }

    /// A block has ended. Whoever has used its shared memory must have told it that this is over: otherwise it might
    /// have ended before.
    pub fn check_visits(&mut self, block: &Block) {
        let Some(races) = &mut self.races else {
            return;
        };
        for visit in races.open_visits(block.index) {
            let [x, y, z] = block.coordinates;
            let message = format!(
                "block ({x}, {y}, {z}) may end before this access to its shared memory: it must wait for it, at a barrier \
                 of the cluster for instance"
            );
            let other = Other::Access {
                access: "end of the block".into(),
                source: None,
                ptx_line: 0,
                block: block.coordinates,
                warp: 0,
                lane: 0,
            };
            let (kind, space) = (FindingKind::UseAfterFree, MemorySpace::Shared);
            let site = Site {
                pc: visit.pc,
                block: visit.who.block,
                warp: visit.who.warp,
                lane: visit.lane,
            };
            self.report(kind, space, site, message, Some((u32::MAX, other)));
        }
    }
}

impl Machine<'_> {
    /// Whose shared memory an address of `shared::cluster` is in; `None` for a rank that the cluster does not have.
    pub fn holder(&self, address: u32) -> Option<Holder> {
        let shape = self.grid.cluster;
        match rank_of(address) {
            None => Some(Holder::Own),
            Some(rank) if rank == shape.rank(self.block.coordinates) => Some(Holder::Own),
            Some(rank) => {
                let mut peers = self.grid.peers.iter();
                let found = peers.position(|peer| shape.rank(peer.coordinates) == rank);
                found.map(Holder::Peer)
            }
        }
    }

    /// The block that holds some shared memory.
    pub fn block_of(&mut self, holder: Holder) -> &mut Block {
        match holder {
            Holder::Own => self.block,
            Holder::Peer(at) => &mut self.grid.peers[at],
        }
    }

    /// Where the shared memory of a block of the cluster is, by its linear index.
    pub fn holder_of(&self, index: u32) -> Holder {
        let peer = self.grid.peers.iter().position(|peer| peer.index == index);
        peer.map_or(Holder::Own, Holder::Peer)
    }

    /// Linear index of the block that holds some shared memory.
    pub fn index_of(&self, holder: Holder) -> u32 {
        match holder {
            Holder::Own => self.block.index,
            Holder::Peer(at) => self.grid.peers[at].index,
        }
    }

    /// `len` bytes at an address of `shared::cluster` that names a rank.
    #[cold]
    pub fn cluster_bytes(&mut self, address: u32, len: usize) -> Option<*mut u8> {
        let (holder, at) = (self.holder(address)?, offset(address) as usize);
        let gap = self.in_guard_gap(at as u64, len);
        let block = self.block_of(holder);
        let size = block.shared.len();
        if at >= size || size - at < len || gap || holder != Holder::Own && block.has_ended() {
            return None;
        }
        Some(block.shared.as_mut_ptr().wrapping_add(at))
    }

    /// Why an address that names a rank has no bytes.
    pub fn describe_cluster(&self, address: u32, bytes: u32) -> (FindingKind, String) {
        let rank = rank_of(address).unwrap_or(0);
        let blocks = self.grid.cluster.blocks();
        match self.holder(address) {
            None => {
                let message = format!("it is in block {rank} of a cluster of {blocks}");
                (FindingKind::OutOfBounds, message)
            }
            Some(Holder::Peer(at)) if self.grid.peers[at].has_ended() => {
                let message = format!(
                    "it is in shared memory of block {rank} of the cluster, which has ended"
                );
                (FindingKind::UseAfterFree, message)
            }
            Some(_) => {
                let message = self.describe_shared(offset(address), bytes);
                (
                    FindingKind::OutOfBounds,
                    format!("in block {rank} of the cluster {message}"),
                )
            }
        }
    }

    /// Tells the checks that the running warp uses the shared memory of another block.
    pub fn note_visit(&mut self, holder: Holder, lane: usize) {
        let visit = self.visit(lane);
        if let Holder::Peer(at) = holder
            && let Some(races) = &mut self.grid.races
        {
            races.visit(self.grid.peers[at].index, visit);
        }
    }

    /// A use of another block's shared memory by the current instruction.
    pub fn visit(&self, lane: usize) -> Visit {
        Visit {
            who: self.actor(),
            lane: lane as u32,
            pc: self.pc,
        }
    }

    /// Lanes of the warp have ended.
    pub fn leave_cluster(&mut self, lanes: u32) {
        self.grid.leave_cluster(self.block, self.warp, lanes);
    }

    /// The active lanes arrive at the barrier of the cluster; false if one of them has arrived already.
    pub fn arrive_at_cluster(&mut self, releases: bool) -> bool {
        let (who, lanes, number) = (self.actor(), self.mask, self.grid.cluster_of(self.block));
        let meeting = self.grid.meetings.entry(number).or_default();
        if self.warp.arrivals.lanes & lanes != 0 {
            return false;
        }
        self.warp.arrivals.lanes |= lanes;
        for lane in Lanes(lanes) {
            self.warp.arrivals.phases[lane] = meeting.phase;
        }
        meeting.arrived += lanes.count_ones();
        let complete = meeting.completes();
        if let Some(races) = &mut self.grid.races {
            races.warp_sync(who, lanes);
            match releases {
                true => races.cluster_arrive(who, number),
                false => races.cluster_arrive_relaxed(who, number, Scope::Cluster.into()),
            }
            if complete {
                races.cluster_complete(number);
            }
        }
        true
    }

    /// Whether the phase in which the active lanes arrived is over; if not, its number.
    pub fn cluster_is_complete(&mut self) -> Result<(), u32> {
        let phase = self.warp.arrivals.last(self.mask);
        if !self.grid.cluster_has_met(self.block, phase) {
            return Err(phase);
        }
        self.warp.arrivals.lanes &= !self.mask;
        let (who, number) = (self.actor(), self.grid.cluster_of(self.block));
        if let Some(races) = &mut self.grid.races {
            races.cluster_wait(who, number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_cluster_come_together() {
        let (shape, grid) = (Shape([2, 2, 1]), [4, 4, 2]);
        let order: Vec<u32> = (0..8).map(|n| shape.nth(n, grid)).collect();
        assert_eq!(order, [0, 1, 4, 5, 2, 3, 6, 7]);
        for n in 0..32 {
            let index = shape.nth(n, grid);
            let at = [index % 4, index / 4 % 4, index / 16];
            assert_eq!(u64::from(shape.number(at, grid)), n / 4);
            assert_eq!(u64::from(shape.rank(at)), n % 4);
            assert_eq!(shape.member(at, shape.rank(at), grid), index);
        }
    }

    #[test]
    fn addresses_keep_their_offset() {
        let mapped = map(0x1230, 3);
        assert_eq!((offset(mapped), rank_of(mapped)), (0x1230, Some(3)));
        assert_eq!(map(mapped, 0), map(0x1230, 0));
        assert_eq!(rank_of(0x1230), None);
        assert_eq!(rank_of(map(0, u32::MAX)), Some(254));
        assert_eq!(
            map_generic(SHARED_BASE + 16, 1),
            SHARED_BASE + u64::from(map(16, 1))
        );
        assert_eq!(map_generic(crate::memory::GLOBAL_BASE, 1), 0);
    }
}
