//! Barriers of the block: `bar`, `barrier`; and of the warp: `bar.warp.sync`.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::block::BARRIERS;
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::row::{FULL, Slot};
use crate::exec::warp::State;

/// Flags of a barrier instruction.
pub mod flag {
    /// All lanes of the warp execute it together.
    pub const ALIGNED: u8 = 1;
    /// `arrive`: does not wait.
    pub const ARRIVE: u8 = 2;
    /// A thread count is given, in `b`.
    pub const COUNTED: u8 = 4;
    /// `red.and`.
    pub const AND: u8 = 8;
    /// `red.or`.
    pub const OR: u8 = 16;
    /// `red.popc`.
    pub const POPC: u8 = 32;
    /// The predicate of a reduction is negated.
    pub const NEGATED: u8 = 64;
}

/// `barrier{.cta}.{sync, arrive, red}`: id in `a`, count in `b`, predicate of a reduction in `q`, its result in `p` or
/// `d`.
pub struct BlockBarrier;

impl Code for BlockBarrier {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let current = machine.warp.current;
        if let Some(result) = machine.warp.fragments[current].released.take() {
            // SAFETY: the handler's contract.
            unsafe { machine.barrier_result(inst, result) };
            return Flow::Next;
        }
        let lane = machine.mask.trailing_zeros() as usize;
        if inst.flags & flag::ALIGNED != 0 {
            let everyone = machine.warp.alive();
            if !machine.gather(everyone, true) {
                return Flow::Jump;
            }
            let gone = machine.warp.exited;
            if gone != 0 {
                let message = format!(
                    "the barrier needs all lanes of the warp, but lanes {gone:#010x} have returned before it: let them \
                     reach the barrier too"
                );
                return machine.fault(
                    FindingKind::DivergentBarrier,
                    MemorySpace::None,
                    lane,
                    message,
                );
            }
        }
        // SAFETY: the handler's contract.
        let (ids, counts) = unsafe {
            (
                machine.row(inst.a),
                if inst.flags & flag::COUNTED != 0 {
                    Some(machine.row(inst.b))
                } else {
                    None
                },
            )
        };
        let id = ids[lane] as usize;
        if Lanes(machine.mask).any(|other| ids[other] as usize != id) || id >= BARRIERS {
            let message =
                format!("barrier {id}: lanes of a warp must name one barrier, of 0 to 15");
            return machine.fault(
                FindingKind::DivergentBarrier,
                MemorySpace::None,
                lane,
                message,
            );
        }
        let count = counts.map(|counts| counts[lane]);
        if let Some(count) = count
            && (count == 0 || !count.is_multiple_of(32))
        {
            let message = format!(
                "barrier {id} is given {count} threads, which is not a multiple of the warp size"
            );
            return machine.fault(
                FindingKind::DivergentBarrier,
                MemorySpace::None,
                lane,
                message,
            );
        }
        // SAFETY: the handler's contract.
        let votes = unsafe { machine.predicate(inst.q) }
            ^ if inst.flags & flag::NEGATED != 0 {
                u32::MAX
            } else {
                0
            };
        machine.arrive(inst, id, count, votes)
    }
}

impl Machine<'_> {
    fn arrive(&mut self, inst: &Inst, id: usize, count: Option<u32>, votes: u32) -> Flow {
        let lane = self.mask.trailing_zeros() as usize;
        let threads = if inst.flags & flag::ALIGNED != 0 {
            32
        } else {
            self.mask.count_ones()
        };
        let whole = self.block.barrier_threads();
        let barrier = &mut self.block.barriers[id];
        if barrier.arrived > 0 && barrier.expected != count {
            let text =
                |count: Option<u32>| count.map_or("all".to_string(), |count| count.to_string());
            let message = format!(
                "barrier {id} is used with {} threads here and with {} by those who have arrived",
                text(count),
                text(barrier.expected)
            );
            return self.fault(
                FindingKind::DivergentBarrier,
                MemorySpace::None,
                lane,
                message,
            );
        }
        barrier.expected = count;
        barrier.arrived += threads;
        barrier.votes += (votes & self.mask).count_ones();
        barrier.warps |= 1 << self.warp.index;
        if self.grid.options.counters {
            self.grid.counts[self.pc as usize].arrivals += 1;
        }
        let expected = count.unwrap_or(whole);
        let arrived = barrier.arrived;
        if arrived > expected {
            let message =
                format!("{arrived} threads have arrived at barrier {id}, which expects {expected}");
            return self.fault(
                FindingKind::DivergentBarrier,
                MemorySpace::None,
                lane,
                message,
            );
        }
        self.note_arrival(id);
        let waits = inst.flags & flag::ARRIVE == 0;
        if arrived < expected {
            if !waits {
                return Flow::Next;
            }
            return self.park(State::Barrier { id: id as u32 });
        }
        let barrier = &self.block.barriers[id];
        let all = if count.is_some() {
            expected
        } else {
            self.block.threads
        };
        let result = match inst.flags & (flag::AND | flag::OR | flag::POPC) {
            flag::AND => u32::from(barrier.votes >= all),
            flag::OR => u32::from(barrier.votes > 0),
            _ => barrier.votes,
        };
        self.note_completion(id, waits);
        self.block.release(self.warp, id, result);
        if waits {
            // SAFETY: the instruction belongs to the program.
            unsafe { self.barrier_result(inst, result) };
        }
        Flow::Next
    }

    /// Writes the result of a reducing barrier.
    unsafe fn barrier_result(&mut self, inst: &Inst, result: u32) {
        // SAFETY: passed on.
        unsafe {
            if inst.flags & flag::POPC != 0 {
                self.set_row(inst.d, &[result; 32]);
            } else if inst.flags & (flag::AND | flag::OR) != 0 {
                self.blend_predicate(inst.p, if result != 0 { u32::MAX } else { 0 });
            }
        }
    }

    /// Checks what a `.sync` instruction's member mask says and gathers its lanes; an error is what the instruction
    /// returns.
    ///
    /// # Safety
    /// The slot is one of the program.
    #[inline(always)]
    pub unsafe fn members(&mut self, slot: Slot) -> Result<(), Flow> {
        // SAFETY: passed on.
        let masks = unsafe { self.row(slot) };
        let (mut union, mut own, mut all) = (0, true, self.mask);
        for mask in &masks {
            all &= mask;
        }
        // Mostly all lanes name all lanes.
        if all == FULL {
            union = FULL;
        } else {
            for lane in Lanes(self.mask) {
                union |= masks[lane];
                own &= masks[lane] >> lane & 1 != 0;
            }
        }
        let strangers = union & !self.warp.alive();
        if !own || strangers != 0 {
            return self.unusual_members(union, own);
        }
        if self.gather(union, false) {
            Ok(())
        } else {
            Err(Flow::Jump)
        }
    }

    /// Gathers the whole warp for an `.aligned` instruction; an error is what the instruction returns.
    #[inline(always)]
    pub fn whole_warp(&mut self) -> Result<(), Flow> {
        if self.mask != FULL {
            return self.part_of_warp();
        }
        self.note_warp_sync();
        Ok(())
    }

    #[cold]
    fn part_of_warp(&mut self) -> Result<(), Flow> {
        if !self.gather(self.warp.alive(), true) {
            return Err(Flow::Jump);
        }
        let lane = self.mask.trailing_zeros() as usize;
        let (gone, never) = (self.warp.exited, !self.warp.launched);
        let why = if gone != 0 {
            format!("lanes {gone:#010x} have returned before it")
        } else if never != 0 {
            format!("lanes {never:#010x} do not exist in a block of this size")
        } else {
            format!(
                "its guard leaves out lanes {:#010x}",
                self.fragment & !self.mask
            )
        };
        let message = format!("the instruction needs all lanes of the warp, but {why}");
        Err(self.fault(
            FindingKind::DivergentBarrier,
            MemorySpace::None,
            lane,
            message,
        ))
    }

    #[cold]
    fn unusual_members(&mut self, union: u32, own: bool) -> Result<(), Flow> {
        let lane = self.mask.trailing_zeros() as usize;
        let gone = union & self.warp.exited;
        let message = if !own {
            format!("the member mask {union:#010x} leaves out a lane that executes the instruction")
        } else if gone != 0 {
            format!("the member mask {union:#010x} names lanes {gone:#010x}, which have ended")
        } else {
            // The last warp of a block whose size is no multiple of 32 has lanes that never existed; a full mask names
            // them all the same, and the hardware takes it.
            return if self.gather(union & self.warp.launched, false) {
                Ok(())
            } else {
                Err(Flow::Jump)
            };
        };
        Err(self.fault(FindingKind::Membermask, MemorySpace::None, lane, message))
    }
}

/// `bar.warp.sync`: the member mask is in `a`.
pub struct WarpBarrier;

impl Code for WarpBarrier {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        match unsafe { machine.members(inst.a) } {
            Ok(()) => {
                machine.note_warp_sync();
                Flow::Next
            }
            Err(flow) => flow,
        }
    }
}
