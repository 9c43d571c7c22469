//! A warp: registers, and fragments of lanes that run together.

use super::cluster::Arrivals;
use super::copies::{Copies, Groups};
use super::program::Scope;
use super::row::{LANES, Row};
use super::watch::Touched;
use crate::check::shadow::ByteState;

/// Why a fragment does not run.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It can run.
    Ready,
    /// It waits at an instruction that the lanes `members` execute together.
    Sync {
        /// Lanes that must be here.
        members: u32,
        /// Whether the instruction is a barrier of the block.
        barrier: bool,
    },
    /// It has arrived at barrier `id` of the block.
    Barrier {
        /// The barrier.
        id: u32,
    },
    /// It read the same values from the same places twice: it goes on when one of them changes.
    Poll(Poll),
    /// It runs round a loop that changes nothing: it goes on when nobody else can.
    Spin,
    /// It waits for a phase of an mbarrier.
    Mbarrier {
        /// Offset in shared memory.
        address: u32,
        /// The phase parity that it waits for to complete.
        parity: u32,
    },
    /// It waits for the other warps of its group to issue products.
    Products {
        /// How many.
        count: u64,
    },
    /// It waits for a phase of the barrier of its cluster.
    Cluster {
        /// The phase.
        phase: u32,
    },
}

/// What a polling read saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Poll {
    /// The instruction.
    pub pc: u32,
    /// Generic addresses and values read, one for each lane that read.
    pub seen: Vec<(u64, u64)>,
    /// Bytes of each.
    pub bytes: u32,
    /// Stores of the warp before the read.
    pub stores: u64,
}

/// Lanes of a warp that are at one place.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// The next instruction.
    pub pc: u32,
    /// Its lanes.
    pub mask: u32,
    /// Where the calls that it is in go back to.
    pub calls: Vec<u32>,
    /// Why it waits, if it does.
    pub state: State,
    /// How often it had to let others go first.
    pub turns: u32,
    /// Backward branches since it was chosen, while others could run.
    pub loops: u32,
    /// Its last polling read.
    pub poll: Poll,
    /// Result of the barrier that it was released from.
    pub released: Option<u32>,
}

impl Fragment {
    /// Lanes `mask` at `pc`.
    pub fn new(pc: u32, mask: u32) -> Self {
        Self {
            pc,
            mask,
            calls: Vec::new(),
            state: State::Ready,
            turns: 0,
            loops: 0,
            poll: Poll::default(),
            released: None,
        }
    }

    fn is_at_sync(&self) -> bool {
        matches!(self.state, State::Sync { .. })
    }
}

/// A warp of a resident block.
#[derive(Debug, Default)]
pub struct Warp {
    /// Index in its block.
    pub index: u32,
    /// Constants of the program, then registers.
    pub registers: Vec<Row>,
    /// Predicates, one bit a lane.
    pub predicates: Vec<u32>,
    /// Fragments that have not ended.
    pub fragments: Vec<Fragment>,
    /// The fragment that runs.
    pub current: usize,
    /// Lanes that the launch gave it.
    pub launched: u32,
    /// Lanes that have ended.
    pub exited: u32,
    /// Local memory, lane after lane.
    pub local: Vec<u8>,
    /// Which bytes of it are initialised.
    pub local_state: ByteState,
    /// Stores and atomics so far: a poll with none since is a poll of the same state.
    pub stores: u64,
    /// `stores` at the end of its last turn, and the turns that it has stood at that.
    pub stores_seen: u64,
    /// See `stores_seen`.
    pub quiet: u32,
    /// The scope of the last fence, until the next access.
    pub fenced: Option<Scope>,
    /// Times that polls may go on though nothing has changed.
    pub free_polls: u32,
    /// Its turn is over because it sleeps.
    pub sleeps: bool,
    /// `cp.async` of its lanes.
    pub copies: Copies,
    /// Groups of its bulk copies: complete, and done with their sources.
    pub bulk: [Groups; 2],
    /// Its arrivals at the barrier of its cluster.
    pub arrivals: Arrivals,
    /// What it did with registers of products.
    pub touched: Touched,
}

impl Warp {
    /// A warp of `launched` lanes about to run `entry`; `constants` are copied before its registers.
    #[allow(clippy::too_many_arguments)] // Sizes of one program, told once a warp.
    pub fn start(
        &mut self,
        constants: &[Row],
        index: u32,
        launched: u32,
        entry: u32,
        rows: usize,
        predicates: usize,
        local: usize,
    ) {
        self.index = index;
        self.registers.clear();
        self.registers.extend_from_slice(constants);
        self.registers.resize(constants.len() + rows, Row::ZERO);
        self.predicates.clear();
        self.predicates.resize(predicates, 0);
        self.predicates[0] = u32::MAX;
        self.local.clear();
        self.local.resize(local * LANES, 0);
        self.local_state = ByteState::new(local * LANES, false);
        self.fenced = None;
        (self.stores_seen, self.quiet) = (0, 0);
        self.copies.clear();
        self.bulk.iter_mut().for_each(Groups::clear);
        self.arrivals = Arrivals::default();
        self.touched = Touched::default();
        self.fragments.clear();
        self.fragments.push(Fragment::new(entry, launched));
        (
            self.launched,
            self.exited,
            self.stores,
            self.current,
            self.free_polls,
            self.sleeps,
        ) = (launched, 0, 0, 0, 0, false);
    }

    /// Lanes that have not ended.
    pub fn alive(&self) -> u32 {
        self.launched & !self.exited
    }

    /// Whether some fragment can run.
    pub fn is_ready(&self) -> bool {
        self.fragments
            .iter()
            .any(|fragment| fragment.state == State::Ready)
    }

    /// Merges fragments at one place and chooses which runs: those that have waited longest first, then the deepest
    /// call, then the lowest pc, so that lanes which left a branch wait for those still in it. Gives the pc at which
    /// the choice must be made again, or nothing if no fragment can run.
    pub fn choose(&mut self) -> Option<u32> {
        self.merge();
        let mut best: Option<usize> = None;
        for (index, fragment) in self.fragments.iter().enumerate() {
            if fragment.state != State::Ready {
                continue;
            }
            let key = |f: &Fragment| (f.turns, usize::MAX - f.calls.len(), f.pc);
            if best.is_none_or(|best| key(fragment) < key(&self.fragments[best])) {
                best = Some(index);
            }
        }
        let best = best?;
        self.current = best;
        let chosen = &self.fragments[best];
        let (pc, depth) = (chosen.pc, chosen.calls.len());
        let limit = self
            .fragments
            .iter()
            .enumerate()
            .filter(|(index, fragment)| {
                let meets = fragment.state == State::Ready || fragment.is_at_sync();
                *index != best && meets && fragment.pc > pc && fragment.calls.len() == depth
            })
            .map(|(_, fragment)| fragment.pc)
            .min();
        Some(limit.unwrap_or(u32::MAX))
    }

    /// Makes one fragment of those that meet at one place; it can run.
    pub fn merge(&mut self) {
        let mut index = 0;
        while index < self.fragments.len() {
            let (head, tail) = self.fragments.split_at_mut(index);
            let fragment = &tail[0];
            let meets =
                |f: &Fragment| (f.state == State::Ready && f.released.is_none()) || f.is_at_sync();
            // Most are in no call: nothing is compared then.
            let same_calls = |other: &Fragment| {
                other.calls.len() == fragment.calls.len()
                    && (fragment.calls.is_empty() || other.calls == fragment.calls)
            };
            let twin = head.iter_mut().find(|other| {
                other.pc == fragment.pc && same_calls(other) && meets(other) && meets(fragment)
            });
            match twin {
                Some(twin) => {
                    twin.mask |= fragment.mask;
                    twin.turns = twin.turns.min(fragment.turns);
                    twin.state = State::Ready;
                    twin.poll = Poll::default();
                    self.fragments.remove(index);
                }
                None => index += 1,
            }
        }
    }
}
