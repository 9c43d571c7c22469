//! A block: warps, shared memory, barriers.

use super::agent::Agent;
use super::mbarrier::Mbarriers;
use super::products::Warpgroup;
use super::warp::{State, Warp};
use crate::check::shadow::ByteState;
use crate::memory::Bytes;

/// Barriers of a block.
pub const BARRIERS: usize = 16;

/// A named barrier.
#[derive(Clone, Debug, Default)]
pub struct Barrier {
    /// Threads that it waits for, if a count was given; all of the block otherwise.
    pub expected: Option<u32>,
    /// Threads that have arrived.
    pub arrived: u32,
    /// Threads whose predicate was true, for `bar.red`.
    pub votes: u32,
    /// Warps that have arrived, waiting ones and others, one bit each.
    pub warps: u64,
}

/// A resident block.
#[derive(Debug, Default)]
pub struct Block {
    /// Linear index in the grid.
    pub index: u32,
    /// Index in the grid, by dimension.
    pub coordinates: [u32; 3],
    /// Its warps; the one that runs is taken out.
    #[allow(clippy::vec_box)] // Taking one out moves a pointer, at every turn.
    pub warps: Vec<Box<Warp>>,
    /// Shared memory.
    pub shared: Bytes,
    /// Which shared bytes are initialised or pending.
    pub shared_state: ByteState,
    /// Asynchronous copies started in it so far.
    pub copies: u64,
    /// Its mbarriers.
    pub mbarriers: Mbarriers,
    /// Bulk copies under way.
    pub agent: Agent,
    /// Products of its warpgroups.
    pub products: Vec<Warpgroup>,
    /// Its barriers.
    pub barriers: [Barrier; BARRIERS],
    /// Threads of the block.
    pub threads: u32,
    /// Threads that have ended.
    pub exited: u32,
    /// Warps that have ended.
    pub finished: usize,
}

impl Block {
    /// A number for an asynchronous copy that no other of the launch has.
    pub fn next_copy(&mut self) -> u64 {
        self.copies += 1;
        u64::from(self.index) << 32 | self.copies
    }

    /// Whether all of its threads have ended.
    pub fn has_ended(&self) -> bool {
        self.finished == self.warps.len()
    }

    /// Threads that a barrier without a count waits for: whole warps, as the hardware counts.
    pub fn barrier_threads(&self) -> u32 {
        self.threads.next_multiple_of(32)
    }

    /// Releases everybody who waits at barrier `id`, the running warp included, with `result`.
    pub fn release(&mut self, running: &mut Warp, id: usize, result: u32) {
        let release = |warp: &mut Warp| {
            for fragment in &mut warp.fragments {
                if matches!(fragment.state, State::Barrier { id: at } if at as usize == id) {
                    fragment.state = State::Ready;
                    fragment.released = Some(result);
                }
            }
        };
        self.warps.iter_mut().for_each(|warp| release(warp));
        release(running);
        self.barriers[id] = Barrier::default();
    }
}
