//! The race detector on synthetic sequences of events, and against a brute-force model.

mod asynchronous;
mod device;
mod model;
mod shared;

use virtual_gpu::check::race::{Access, Actor, Conflict, LaneAccess, Races, Space};

/// Shared memory of block 0.
const SHARED: Space = Space::Shared(0);
const GLOBAL: Space = Space::Global(0);

fn warp(block: u32, warp: u32) -> Actor {
    Actor { block, warp }
}

/// Shorthand for the accesses of tests. Instruction numbers are made from who does what.
trait Accesses {
    fn lanes(
        &mut self,
        who: Actor,
        space: Space,
        access: Access,
        mask: u32,
        bytes: u32,
        address: impl Fn(u64) -> u64,
    ) -> Option<Conflict>;

    /// All lanes, 4 bytes each, side by side from `start`.
    fn row(&mut self, who: Actor, space: Space, access: Access, start: u64) -> Option<Conflict> {
        self.lanes(who, space, access, u32::MAX, 4, |lane| start + 4 * lane)
    }

    /// One lane, 4 bytes.
    fn one(
        &mut self,
        who: Actor,
        lane: u32,
        space: Space,
        access: Access,
        address: u64,
    ) -> Option<Conflict> {
        self.lanes(who, space, access, 1 << lane, 4, |_| address)
    }
}

impl Accesses for Races {
    fn lanes(
        &mut self,
        who: Actor,
        space: Space,
        access: Access,
        mask: u32,
        bytes: u32,
        address: impl Fn(u64) -> u64,
    ) -> Option<Conflict> {
        let addresses = std::array::from_fn(|lane| address(lane as u64));
        let lanes = LaneAccess {
            addresses: &addresses,
            mask,
            bytes,
            collective: false,
            values: None,
            unchanged: false,
        };
        self.access(who, space, 100 * who.block + who.warp, access, &lanes)
    }
}
