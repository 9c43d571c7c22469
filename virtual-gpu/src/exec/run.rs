//! Runs a warp until it waits, ends or has had its turn.

use super::inst::{Flow, Inst};
use super::machine::Machine;
use super::registers::Registers;
use super::row::FULL;
use super::warp::State;

/// Why a warp stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its turn is over.
    Quantum,
    /// All its fragments wait.
    Parked,
    /// All its lanes have ended.
    Done,
    /// The launch has failed.
    Fault,
}

/// Backward branches after which a fragment lets the others of its warp go first: every lane makes progress.
const FAIR: u32 = 256;

/// Instructions that may run one inside the other, where the compiler has made calls and no jumps of their ends.
const DEEPEST: usize = 64;

/// Runs `count` instructions for all lanes: no guard, no branch, nothing that looks at more than registers.
///
/// # Safety
/// As for [`Handler`](super::inst::Handler), and `count` is at least 1 and at most `first.straight`.
#[inline(always)]
unsafe fn run_straight(registers: Registers, first: *const Inst, count: u32) {
    let mut left = count as usize;
    let mut inst = first;
    while left != 0 {
        let some = left.min(DEEPEST);
        // SAFETY: the caller's promise; `straight` counts instructions that have a function for all lanes.
        unsafe {
            let end = inst.add(some);
            ((*inst).handler.full.unwrap_unchecked())(registers, inst, end);
            inst = end;
        }
        left -= some;
    }
}

impl Machine<'_> {
    /// Runs at most about `quantum` instructions.
    pub fn run<const COUNT: bool>(&mut self, quantum: u64) -> Stop {
        let mut left = quantum as i64;
        loop {
            // A warp may end with its turn.
            if left <= 0 && !self.warp.fragments.is_empty() {
                // Lanes that have met at their last instruction can run, which else nobody would notice.
                self.warp.merge();
                return Stop::Quantum;
            }
            let Some(limit) = self.warp.choose() else {
                return if self.warp.fragments.is_empty() {
                    Stop::Done
                } else {
                    Stop::Parked
                };
            };
            let before = left;
            let flow = match self.grid.watches_registers {
                true => self.run_watched::<COUNT>(limit, &mut left),
                false => self.run_fragment::<COUNT>(limit, &mut left),
            };
            self.grid.instructions += (before - left) as u64;
            if flow == Flow::Fault {
                return Stop::Fault;
            }
            if flow == Flow::Jump && self.warp.sleeps {
                left = 0;
            }
        }
    }

    /// Runs the chosen fragment until it comes to `limit`, waits, splits or ends.
    pub fn run_fragment<const COUNT: bool>(&mut self, limit: u32, left: &mut i64) -> Flow {
        let current = self.warp.current;
        let (mut pc, fragment) = (
            self.warp.fragments[current].pc,
            self.warp.fragments[current].mask,
        );
        self.fragment = fragment;
        let code: *const Inst = self.grid.program.code.as_ptr();
        loop {
            // SAFETY: the pc stays inside the code: it ends with an exit, branches go to instructions of the program,
            // and the program is not changed while it runs.
            let inst = unsafe { &*code.add(pc as usize) };
            if fragment == FULL && inst.straight != 0 {
                let count = u32::from(inst.straight)
                    .min(limit - pc)
                    .min((*left).min(u32::MAX.into()) as u32);
                // SAFETY: `count` instructions from here on compute registers from registers.
                unsafe { run_straight(self.registers, inst, count) };
                if COUNT {
                    self.grid.counts[pc as usize..][..count as usize]
                        .iter_mut()
                        .for_each(|counted| counted.add(FULL));
                }
                *left -= i64::from(count);
                pc += count;
                if pc >= limit || *left <= 0 {
                    self.warp.fragments[current].pc = pc;
                    return Flow::Next;
                }
                continue;
            }
            self.pc = pc;
            self.mask = fragment;
            if inst.guarded {
                // SAFETY: the instruction belongs to the program that the machine was set up for.
                let guard = unsafe { self.predicate(inst.guard) };
                self.mask &= guard ^ if inst.negate { u32::MAX } else { 0 };
            }
            if COUNT {
                let count = &mut self.grid.counts[pc as usize];
                count.add(self.mask);
                if inst.guarded {
                    count.reached += u64::from(fragment.count_ones());
                }
            }
            *left -= 1;
            pc += 1;
            if self.mask != 0 {
                // SAFETY: as above; handlers were chosen for this processor.
                match unsafe { (inst.handler.run)(self, inst) } {
                    Flow::Next => {}
                    Flow::Branch => pc = self.pc,
                    flow => return flow,
                }
            }
            if pc >= limit || *left <= 0 {
                self.warp.fragments[current].pc = pc;
                return Flow::Next;
            }
        }
    }

    /// A backward branch was taken: gives the others of the warp a turn now and then.
    #[inline(always)]
    pub fn looped(&mut self) -> bool {
        if self.warp.fragments.len() == 1 {
            return false;
        }
        self.looped_among_others()
    }

    #[cold]
    fn looped_among_others(&mut self) -> bool {
        let current = self.warp.current;
        let fragment = &mut self.warp.fragments[current];
        fragment.loops += 1;
        if fragment.loops < FAIR {
            return false;
        }
        fragment.loops = 0;
        fragment.turns += 1;
        true
    }

    /// Parks the running fragment at the current instruction.
    pub fn park(&mut self, state: State) -> Flow {
        let current = self.warp.current;
        let fragment = &mut self.warp.fragments[current];
        fragment.pc = self.pc;
        fragment.state = state;
        if self.grid.options.counters {
            self.grid.counts[self.pc as usize].take_back(self.mask);
        }
        Flow::Jump
    }

    /// Gathers the lanes that an instruction is executed by: true once `members` (but for those that have ended) are
    /// all here; otherwise the fragment has been parked.
    #[inline(always)]
    pub fn gather(&mut self, members: u32, barrier: bool) -> bool {
        let missing = members & self.warp.alive() & !self.fragment;
        if missing == 0 {
            return true;
        }
        self.park(State::Sync { members, barrier });
        false
    }
}
