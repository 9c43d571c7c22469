//! When nobody runs: polls that may go on, and who waits for what when nobody can.

use super::block::Block;
use super::grid::Grid;
use super::machine::{Lanes, Machine, Site};
use super::run::Stop;
use super::warp::{Poll, State};
use crate::check::finding::{FindingKind, MemorySpace, Other, OtherWaiter};
use crate::memory::{LOCAL_BASE, SHARED_BASE, Window};
use std::time::{Duration, Instant};

/// Rounds in which polls go on though nothing has changed, before a standstill is called a deadlock. A loop that gives
/// up after some tries, or that merely reads one place often, gets through: round n lets each poll on 2^n times.
const ROUNDS: u32 = 16;

/// Turns without a store after which a warp is looked at more closely: some hundred thousand instructions.
const QUIET_TURNS: u32 = 256;

/// Longest loop, in instructions, that is recognised as one that changes nothing.
const LONGEST_SPIN: u32 = 2048;

/// How far polls have been let on since something last happened.
#[derive(Debug, Default)]
pub struct Grace {
    rounds: u32,
    stores: u64,
}

/// Lets fragments of a warp go on whose polled values have changed.
pub fn wake_polls(grid: &mut Grid, block: &mut Block, warp: usize) {
    if block.warps[warp]
        .fragments
        .iter()
        .all(|f| !can_wake(&f.state))
    {
        return;
    }
    let mut fragments = std::mem::take(&mut block.warps[warp].fragments);
    for fragment in &mut fragments {
        let changed = match &fragment.state {
            State::Poll(poll) => has_changed(grid, block, poll),
            State::Mbarrier { address, parity } => {
                super::mbarrier::phase_is_over(block, *address, *parity)
            }
            State::Cluster { phase } => grid.cluster_has_met(block, *phase),
            State::Products { count } => grid.products_are_issued(block, warp, *count),
            _ => false,
        };
        if changed {
            fragment.state = State::Ready;
            fragment.poll = Poll::default();
        }
    }
    block.warps[warp].fragments = fragments;
}

/// Whether somebody else's doing wakes a fragment.
fn can_wake(state: &State) -> bool {
    matches!(
        state,
        State::Poll(_) | State::Mbarrier { .. } | State::Cluster { .. } | State::Products { .. }
    )
}

fn has_changed(grid: &Grid, block: &Block, poll: &Poll) -> bool {
    poll.seen
        .iter()
        .any(|(address, value)| peek(grid, block, *address, poll.bytes) != Some(*value))
}

/// The value at a generic address, if one can be read there.
fn peek(grid: &Grid, block: &Block, address: u64, bytes: u32) -> Option<u64> {
    let mut value = [0; 8];
    let value_bytes = value.get_mut(..bytes as usize)?;
    match Window::of(address) {
        Window::Shared(offset) => {
            value_bytes.copy_from_slice(grid.peek_shared(block, offset, bytes as usize)?);
        }
        Window::Global => grid
            .memory
            .read(crate::memory::DevicePointer(address), value_bytes)
            .ok()?,
        _ => return None,
    }
    Some(u64::from_le_bytes(value))
}

/// Nothing has run: lets polls on for a while, then reports a deadlock. False if the launch has failed.
pub fn resolve(grid: &mut Grid, blocks: &mut [Block], grace: &mut Grace) -> bool {
    let stores: u64 = blocks
        .iter()
        .flat_map(|block| &block.warps)
        .map(|warp| warp.stores)
        .sum();
    if stores != grace.stores {
        *grace = Grace { rounds: 0, stores };
    }
    if host_changes(grid, blocks, grace.rounds == ROUNDS) {
        grace.rounds = 0;
        return true;
    }
    let mut woken = false;
    if grace.rounds < ROUNDS {
        for warp in blocks.iter_mut().flat_map(|block| &mut block.warps) {
            for fragment in &mut warp.fragments {
                match fragment.state {
                    State::Poll(_) | State::Mbarrier { .. } => {
                        warp.free_polls = 1 << grace.rounds;
                    }
                    // One that still spins is found out in its next turn.
                    State::Spin => warp.quiet = QUIET_TURNS - 1,
                    _ => continue,
                }
                fragment.state = State::Ready;
                woken = true;
            }
        }
        grace.rounds += 1;
    }
    if !woken {
        let kind = match blocks
            .iter()
            .any(|block| block.warps.iter().any(|w| exited_from_barrier(block, w)))
        {
            true => FindingKind::DivergentBarrier,
            false => FindingKind::Deadlock,
        };
        list_waiters(grid, blocks, kind, "nobody can go on");
    }
    woken
}

/// Waits for the host program to change what is polled in its memory: for long if nothing else can help. False if
/// nothing of the host is polled or it does not change.
fn host_changes(grid: &Grid, blocks: &[Block], long: bool) -> bool {
    if !grid.memory.has_host() {
        return false;
    }
    let polls: Vec<(&Block, &Poll)> = blocks
        .iter()
        .flat_map(|block| block.warps.iter().map(move |warp| (block, warp)))
        .flat_map(|(block, warp)| warp.fragments.iter().map(move |f| (block, f)))
        .filter_map(|(block, fragment)| match &fragment.state {
            State::Poll(poll) => Some((block, poll)),
            _ => None,
        })
        .filter(|(_, poll)| poll.seen.iter().any(|(at, _)| grid.memory.is_host(*at)))
        .collect();
    if polls.is_empty() {
        return false;
    }
    let limit = if long {
        grid.options.host_wait
    } else {
        Duration::from_millis(1)
    };
    let start = Instant::now();
    loop {
        if polls
            .iter()
            .any(|(block, poll)| has_changed(grid, block, poll))
        {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}

/// The launch has executed more instructions than it may: reports who is not done.
pub fn out_of_fuel(grid: &mut Grid, blocks: &[Block]) {
    let why = format!(
        "the kernel has not come to its end within {} warp instructions",
        grid.instructions
    );
    list_waiters(grid, blocks, FindingKind::Deadlock, &why);
}

fn list_waiters(grid: &mut Grid, blocks: &[Block], kind: FindingKind, why: &str) {
    let mut waiters = Vec::new();
    let mut first = None;
    for block in blocks {
        for warp in &block.warps {
            for fragment in &warp.fragments {
                let lane = fragment.mask.trailing_zeros();
                let site = Site {
                    pc: fragment.pc,
                    block: block.index,
                    warp: warp.index,
                    lane,
                };
                let waits_for = describe(grid, block, warp, &fragment.state);
                let (source, _) = grid.source(fragment.pc);
                let line = source
                    .as_ref()
                    .map_or(String::new(), |source| format!(" at {source}"));
                if first.is_none() {
                    first = Some((site, format!("{waits_for}{line}")));
                    continue;
                }
                waiters.push(OtherWaiter {
                    block: block.coordinates,
                    warp: warp.index,
                    lanes: fragment.mask,
                    ptx_line: grid.program.origins[fragment.pc as usize].ptx_line,
                    source,
                    waits_for,
                });
            }
        }
    }
    let Some((site, what)) = first else {
        return;
    };
    let others = waiters.len();
    waiters.truncate(32);
    let message = match others {
        0 => format!("{why}: the only warp left {what}"),
        1 => format!("{why}: this warp {what}; one more is left"),
        n => format!("{why}: this warp {what}; {n} more are left"),
    };
    let other = (others > 0).then_some((u32::MAX, Other::Waiters { waiters }));
    grid.report(kind, MemorySpace::None, site, message, other);
}

/// Whether lanes wait at a barrier that counts lanes which have ended.
fn exited_from_barrier(block: &Block, warp: &super::warp::Warp) -> bool {
    warp.fragments.iter().any(|fragment| match fragment.state {
        State::Barrier { id } => {
            let barrier = &block.barriers[id as usize];
            let expected = barrier.expected.unwrap_or_else(|| block.barrier_threads());
            block.exited > 0 && barrier.arrived + block.exited >= expected
        }
        _ => false,
    })
}

fn describe(grid: &Grid, block: &Block, warp: &super::warp::Warp, state: &State) -> String {
    match state {
        State::Ready => "can run".into(),
        State::Sync { members, .. } => {
            format!(
                "waits for lanes {members:#010x} of its warp (ended: {:#010x})",
                warp.exited
            )
        }
        State::Barrier { id } => {
            let barrier = &block.barriers[*id as usize];
            let expected = barrier.expected.unwrap_or_else(|| block.barrier_threads());
            format!(
                "waits at barrier {id}, where {} of {expected} threads have arrived",
                barrier.arrived
            )
        }
        State::Poll(poll) => match poll.seen.first() {
            Some((address, value)) => {
                let place = match Window::of(*address) {
                    Window::Shared(offset) => format!("shared memory at offset {offset}"),
                    _ => format!("{address:#x} ({})", grid.memory.describe(*address)),
                };
                format!("polls {place}, which stays {value:#x}")
            }
            None => "polls".into(),
        },
        State::Spin => "runs round a loop that changes nothing".into(),
        State::Mbarrier { address, parity } => super::mbarrier::describe(block, *address, *parity),
        State::Cluster { .. } => grid.describe_meeting(block),
        State::Products { count } => super::products::describe(block, warp.index, *count),
    }
}

/// All fragments of the running warp wait for lanes that cannot come: says so.
pub fn divergence(machine: &mut Machine<'_>) -> Stop {
    let mut fragments: Vec<_> = machine.warp.fragments.clone();
    fragments.sort_by_key(|f| (!matches!(f.state, State::Sync { barrier: true, .. }), f.pc));
    let Some(first) = fragments.first() else {
        return Stop::Parked;
    };
    let State::Sync { members, barrier } = first.state else {
        return Stop::Parked;
    };
    let missing = members & machine.warp.alive() & !first.mask;
    let gone = members & machine.warp.exited;
    let others: Vec<String> = fragments[1..]
        .iter()
        .map(|f| {
            let place = machine.grid.source(f.pc).0.map_or_else(
                || {
                    format!(
                        "PTX line {}",
                        machine.grid.program.origins[f.pc as usize].ptx_line
                    )
                },
                |source| source.to_string(),
            );
            format!("lanes {:#010x} wait at {place}", f.mask)
        })
        .collect();
    let kind = if barrier {
        FindingKind::DivergentBarrier
    } else {
        FindingKind::Membermask
    };
    let what = if barrier {
        "the whole warp must execute this"
    } else {
        "this instruction's member mask names them"
    };
    let message = format!(
        "lanes {:#010x} are here, lanes {missing:#010x} will not come ({}{}): {what}",
        first.mask,
        others.join(", "),
        if gone != 0 {
            format!("; lanes {gone:#010x} have ended")
        } else {
            String::new()
        },
    );
    machine.pc = first.pc;
    machine.fault(
        kind,
        MemorySpace::None,
        first.mask.trailing_zeros() as usize,
        message,
    );
    Stop::Fault
}

impl Machine<'_> {
    /// The warp's turn is over. If it has stored nothing for long, and comes back to the very same state of all its
    /// registers, it runs round a loop that only somebody else's store can end, if any: it is parked until nobody else
    /// can run. A read that the compiler has moved out of a polling loop leaves such a loop.
    pub fn check_spinning(&mut self) -> Stop {
        let (stores, quiet) = (self.warp.stores, self.warp.quiet);
        let same = self.warp.stores_seen == stores;
        self.warp.stores_seen = stores;
        self.warp.quiet = if same { quiet + 1 } else { 0 };
        let looks = self.warp.quiet >= QUIET_TURNS && self.warp.quiet.is_multiple_of(QUIET_TURNS);
        // A poll that is let on though nothing has changed is not one of these: it parks by itself.
        if !looks || self.warp.free_polls > 0 || !self.runs_alone() {
            return Stop::Quantum;
        }
        let current = self.warp.current;
        let place = |machine: &Self| {
            let fragment = &machine.warp.fragments[machine.warp.current];
            (fragment.pc, fragment.mask, fragment.calls.len())
        };
        let start = place(self);
        let (registers, predicates) = (self.warp.registers.clone(), self.warp.predicates.clone());
        for _ in 0..LONGEST_SPIN {
            let stop = if self.grid.options.counters {
                self.run::<true>(1)
            } else {
                self.run::<false>(1)
            };
            if stop != Stop::Quantum || !self.runs_alone() || self.warp.stores != stores {
                return stop;
            }
            if place(self) == start
                && self.warp.predicates == predicates
                && self.warp.registers == registers
            {
                self.warp.fragments[current].state = State::Spin;
                return Stop::Parked;
            }
        }
        Stop::Quantum
    }

    /// Whether one fragment of the warp can run, and no other.
    fn runs_alone(&self) -> bool {
        let ready = self
            .warp
            .fragments
            .iter()
            .filter(|f| f.state == State::Ready);
        ready.count() == 1
            && self
                .warp
                .fragments
                .get(self.warp.current)
                .is_some_and(|f| f.state == State::Ready)
    }

    /// Called by reads that may be polls, with what they saw: true if the fragment was parked, because it saw the
    /// same at the same place before and its warp has stored nothing since.
    pub fn parks_on_poll(&mut self, addresses: &[u64; 32], values: &[u64; 32], bytes: u32) -> bool {
        let current = self.warp.current;
        let seen: Vec<(u64, u64)> = Lanes(self.mask)
            .map(|lane| (addresses[lane], values[lane]))
            .collect();
        let poll = Poll {
            pc: self.pc,
            seen,
            bytes,
            stores: self.warp.stores,
        };
        let fragment = &mut self.warp.fragments[current];
        if fragment.poll != poll {
            fragment.poll = poll;
            return false;
        }
        if self.warp.free_polls > 0 {
            self.warp.free_polls -= 1;
            return false;
        }
        let local = addresses
            .iter()
            .any(|address| address & !0xffff_ffff == LOCAL_BASE);
        if local {
            return false;
        }
        let poll = std::mem::take(&mut fragment.poll);
        self.park(State::Poll(poll));
        true
    }
}

/// Generic address of a shared offset, as polls record it.
pub fn shared_address(offset: u32) -> u64 {
    SHARED_BASE + u64::from(offset)
}
