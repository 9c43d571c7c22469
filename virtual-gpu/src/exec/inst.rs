//! Decoded instructions.

use super::machine::Machine;
use super::registers::Registers;
use super::row::Slot;

/// What an instruction does to the flow of its fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// On to the next instruction.
    Next,
    /// The machine's pc is set: all lanes of the fragment go on there.
    Branch,
    /// Fragments have changed, parked or ended: choose again which runs.
    Jump,
    /// The launch has failed; the fault is recorded.
    Fault,
}

/// Runs an instruction for all lanes, and then those after it up to `end`.
///
/// # Safety
/// As for [`Handler`], for each of the instructions; all have such a function and no guard, and there is at least one.
pub type Full = unsafe fn(Registers, *const Inst, end: *const Inst);

/// The code of an instruction.
///
/// # Safety
/// To call either function: the instruction's slots, predicates and index of extra data are those of the program whose
/// registers and constants the machine points at, and the processor has the instruction set that the code was compiled
/// for.
#[derive(Clone, Copy)]
pub struct Handler {
    /// Runs the instruction for the lanes in the machine's mask.
    pub run: unsafe fn(&mut Machine<'_>, &Inst) -> Flow,
    /// Runs it for all lanes: where it does nothing but compute registers from registers.
    pub full: Option<Full>,
    /// What to do so with where `b`, `c`, or both are constants.
    pub with_constants: Option<&'static [Full; 3]>,
}

/// A predicate register by its index; index 0 is always true and never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Predicate(pub u16);

impl Predicate {
    /// True in all lanes.
    pub const TRUE: Predicate = Predicate(0);
    /// Where results that nobody wants go.
    pub const SINK: Predicate = Predicate(1);
}

/// An instruction, decoded.
#[derive(Clone, Copy)]
pub struct Inst {
    /// Its code.
    pub handler: Handler,
    /// Destination.
    pub d: Slot,
    /// First source.
    pub a: Slot,
    /// Second source.
    pub b: Slot,
    /// Third source.
    pub c: Slot,
    /// Immediate: a branch target, an address offset, a barrier id, ...
    pub imm: u32,
    /// Index of further data in the program's list of that kind.
    pub ext: u32,
    /// Lanes for which the predicate is true run the instruction, or those for which it is false.
    pub guard: Predicate,
    /// Destination predicate.
    pub p: Predicate,
    /// Source predicate.
    pub q: Predicate,
    /// Second source predicate.
    pub r: Predicate,
    /// All ones where the guard is negated.
    pub negate: bool,
    /// Whether there is a guard at all.
    pub guarded: bool,
    /// Further flags of one opcode.
    pub flags: u8,
    /// Instructions from here on that have no guard and compute registers from registers; this one, if it does, is the
    /// first of them.
    pub straight: u16,
}

impl Inst {
    /// Chooses the function for all lanes by which sources are constants.
    pub fn specialise(&mut self) {
        let constants = usize::from(self.b.is_constant()) + 2 * usize::from(self.c.is_constant());
        if let (Some(functions), Some(which)) =
            (self.handler.with_constants, constants.checked_sub(1))
        {
            self.handler.full = Some(functions[which]);
        }
    }

    /// Fills in how many instructions follow each other straight.
    pub fn mark_straight(code: &mut [Inst]) {
        let mut straight = 0u16;
        for inst in code.iter_mut().rev() {
            straight = if inst.handler.full.is_some() && !inst.guarded {
                straight.saturating_add(1)
            } else {
                0
            };
            inst.straight = straight;
        }
    }

    /// The slot that the immediate stands for: a fourth source.
    #[inline(always)]
    pub fn extra_slot(&self) -> Slot {
        Slot::from_raw(self.imm)
    }
}
