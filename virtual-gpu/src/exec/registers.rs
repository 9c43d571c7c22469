//! Where the registers of a warp are.

use super::inst::Predicate;
use super::row::{LANES, Row, Slot};

/// Registers and predicates of the warp that runs.
#[derive(Clone, Copy)]
pub struct Registers {
    /// The first register; constants lie before it.
    pub rows: *mut Row,
    /// Predicates, one bit a lane.
    pub predicates: *mut u32,
}

impl Registers {
    /// The first of the 32 values at `slot`.
    ///
    /// # Safety
    /// The slot is one of the grid's program.
    #[inline(always)]
    pub unsafe fn pointer(self, slot: Slot) -> *mut Row {
        // SAFETY: the warp has as many rows of constants and of registers as the program's slots need.
        unsafe { self.rows.byte_offset(slot.bytes()) }
    }

    /// A 32-bit register.
    ///
    /// # Safety
    /// The slot is one of the grid's program.
    #[inline(always)]
    pub unsafe fn row(self, slot: Slot) -> [u32; LANES] {
        // SAFETY: as for `pointer`.
        unsafe { (*self.pointer(slot)).0 }
    }

    /// A 64-bit register.
    ///
    /// # Safety
    /// The slot is one of the grid's program and has two rows.
    #[inline(always)]
    pub unsafe fn wide(self, slot: Slot) -> [u64; LANES] {
        // SAFETY: as for `pointer`; rows are aligned for u64.
        unsafe { *self.pointer(slot).cast::<[u64; LANES]>() }
    }

    /// Lanes in which a predicate is true.
    ///
    /// # Safety
    /// The predicate is one of the grid's program.
    #[inline(always)]
    pub unsafe fn predicate(self, predicate: Predicate) -> u32 {
        // SAFETY: the warp has as many predicates as the program needs.
        unsafe { *self.predicates.add(usize::from(predicate.0)) }
    }

    /// Sets a predicate in all lanes at once; the caller keeps the inactive ones.
    ///
    /// # Safety
    /// The predicate is one of the grid's program and not the one that is always true.
    #[inline(always)]
    pub unsafe fn set_predicate(self, predicate: Predicate, lanes: u32) {
        // SAFETY: as for `predicate`.
        unsafe { *self.predicates.add(usize::from(predicate.0)) = lanes }
    }
}
