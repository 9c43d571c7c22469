//! The warp that is running, as its instructions see it.

use super::block::Block;
use super::grid::Grid;
use super::inst::{Flow, Predicate};
use super::registers::Registers;
use super::row::{LANES, Slot};
use super::warp::Warp;
use crate::check::finding::{FindingKind, MemorySpace};

/// A warp while it runs: its registers, and the block and grid that it belongs to.
pub struct Machine<'a> {
    /// Its registers.
    pub registers: Registers,
    /// Lanes for which the current instruction runs.
    pub mask: u32,
    /// The current instruction; a handler that returns [`Flow::Jump`] has set where the fragment goes on.
    pub pc: u32,
    /// Lanes of the running fragment.
    pub fragment: u32,
    /// The warp.
    pub warp: &'a mut Warp,
    /// Its block.
    pub block: &'a mut Block,
    /// Its grid.
    pub grid: &'a mut Grid,
}

impl std::ops::Deref for Machine<'_> {
    type Target = Registers;

    #[inline(always)]
    fn deref(&self) -> &Registers {
        &self.registers
    }
}

impl<'a> Machine<'a> {
    /// Points at the registers of `warp`.
    pub fn new(warp: &'a mut Warp, block: &'a mut Block, grid: &'a mut Grid) -> Self {
        let constants = grid.constants.len();
        debug_assert!(warp.registers.len() >= constants);
        let registers = Registers {
            rows: warp.registers.as_mut_ptr().wrapping_add(constants),
            predicates: warp.predicates.as_mut_ptr(),
        };
        Self {
            registers,
            mask: 0,
            pc: 0,
            fragment: 0,
            warp,
            block,
            grid,
        }
    }

    /// Writes a 32-bit register in the active lanes.
    ///
    /// # Safety
    /// The slot is a register of the grid's program.
    #[inline(always)]
    pub unsafe fn set_row(&mut self, slot: Slot, values: &[u32; LANES]) {
        // SAFETY: as for `pointer`.
        let row = unsafe { &mut (*self.pointer(slot)).0 };
        for lane in 0..LANES {
            let keep = if self.mask >> lane & 1 != 0 {
                values[lane]
            } else {
                row[lane]
            };
            row[lane] = keep;
        }
    }

    /// Writes a 64-bit register in the active lanes.
    ///
    /// # Safety
    /// The slot is a register of the grid's program and has two rows.
    #[inline(always)]
    pub unsafe fn set_wide(&mut self, slot: Slot, values: &[u64; LANES]) {
        // SAFETY: as for `wide`.
        let row = unsafe { &mut *self.pointer(slot).cast::<[u64; LANES]>() };
        for lane in 0..LANES {
            let keep = if self.mask >> lane & 1 != 0 {
                values[lane]
            } else {
                row[lane]
            };
            row[lane] = keep;
        }
    }

    /// Sets a predicate in the active lanes.
    ///
    /// # Safety
    /// As for [`Registers::set_predicate`].
    #[inline(always)]
    pub unsafe fn blend_predicate(&mut self, predicate: Predicate, lanes: u32) {
        // SAFETY: as for `predicate`.
        unsafe {
            let old = self.predicate(predicate);
            self.set_predicate(predicate, old & !self.mask | lanes & self.mask);
        }
    }

    /// Records what ends the launch.
    #[cold]
    pub fn fault(
        &mut self,
        kind: FindingKind,
        space: MemorySpace,
        lane: usize,
        message: String,
    ) -> Flow {
        let site = self.site(lane);
        self.grid.report(kind, space, site, message, None);
        Flow::Fault
    }

    /// Records a finding after which the launch goes on.
    #[cold]
    pub fn finding(&mut self, kind: FindingKind, space: MemorySpace, lane: usize, message: String) {
        let site = self.site(lane);
        self.grid.report(kind, space, site, message, None);
    }

    /// Where `lane` is now.
    pub fn site(&self, lane: usize) -> Site {
        Site {
            pc: self.pc,
            block: self.block.index,
            warp: self.warp.index,
            lane: lane as u32,
        }
    }
}

/// An instruction in a lane of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The instruction.
    pub pc: u32,
    /// Linear index of the block.
    pub block: u32,
    /// Warp of the block.
    pub warp: u32,
    /// Lane of the warp.
    pub lane: u32,
}

/// Set bits of a mask, lowest first.
pub struct Lanes(pub u32);

impl Iterator for Lanes {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        (self.0 != 0).then(|| {
            let lane = self.0.trailing_zeros() as usize;
            self.0 &= self.0 - 1;
            lane
        })
    }
}
