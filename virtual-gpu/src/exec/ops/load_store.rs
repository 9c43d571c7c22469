//! `ld` and `st`.

use crate::exec::address::{Located, Use, space};
use crate::exec::inst::{Flow, Handler, Inst};
use crate::exec::isa::{Code, handler};
use crate::exec::machine::{Lanes, Machine};
use crate::exec::program::{Access, Extra, Order};
use crate::exec::row::{FULL, LANES, Slot};
use crate::exec::standstill::shared_address;
use std::sync::atomic::{Ordering, fence};

struct Load<const SPACE: u8, const SIZE: usize>;
struct Store<const SPACE: u8, const SIZE: usize>;

/// The handler of a load of elements of `size` bytes from `space`.
pub fn load(state_space: u8, size: u32) -> Option<Handler> {
    macro_rules! sizes {
        ($space:expr) => {
            match size {
                1 => handler::<Load<{ $space }, 1>>(),
                2 => handler::<Load<{ $space }, 2>>(),
                4 => handler::<Load<{ $space }, 4>>(),
                8 => handler::<Load<{ $space }, 8>>(),
                _ => return None,
            }
        };
    }
    Some(match state_space {
        space::GENERIC => sizes!(space::GENERIC),
        space::GLOBAL => sizes!(space::GLOBAL),
        space::SHARED => sizes!(space::SHARED),
        space::LOCAL => sizes!(space::LOCAL),
        space::PARAM => sizes!(space::PARAM),
        space::CONST => sizes!(space::CONST),
        _ => return None,
    })
}

/// The handler of a store of elements of `size` bytes to `space`.
pub fn store(state_space: u8, size: u32) -> Option<Handler> {
    macro_rules! sizes {
        ($space:expr) => {
            match size {
                1 => handler::<Store<{ $space }, 1>>(),
                2 => handler::<Store<{ $space }, 2>>(),
                4 => handler::<Store<{ $space }, 4>>(),
                8 => handler::<Store<{ $space }, 8>>(),
                _ => return None,
            }
        };
    }
    Some(match state_space {
        space::GENERIC => sizes!(space::GENERIC),
        space::GLOBAL => sizes!(space::GLOBAL),
        space::SHARED => sizes!(space::SHARED),
        space::LOCAL => sizes!(space::LOCAL),
        space::PARAM => sizes!(space::PARAM),
        space::CONST => sizes!(space::CONST),
        _ => return None,
    })
}

impl Machine<'_> {
    /// Addresses of the lanes of an access: register plus offset, in the width of the register.
    ///
    /// # Safety
    /// As for [`Handler`].
    #[inline(always)]
    pub unsafe fn addresses<const SPACE: u8>(&self, slot: Slot, access: &Access) -> [u64; LANES] {
        // Loops, not `map`: a function that is called, and not inlined, would miss the instruction set of the caller.
        let mut addresses = [0; LANES];
        if access.wide_address {
            // SAFETY: passed on.
            addresses = unsafe { self.wide(slot) };
        } else {
            // SAFETY: passed on.
            let offsets = unsafe { self.row(slot) };
            for lane in 0..LANES {
                addresses[lane] = u64::from(offsets[lane]);
            }
        }
        let offset = access.offset as u64;
        for address in &mut addresses {
            *address = address.wrapping_add(offset);
            if SPACE == space::SHARED || SPACE == space::LOCAL {
                *address &= 0xffff_ffff;
            }
        }
        addresses
    }
}

/// The access of an instruction. The program outlives the machine's run, so the borrow may be taken apart from it.
///
/// # Safety
/// The machine's program is not changed or dropped while the reference lives.
pub unsafe fn access_of<'p>(machine: &Machine<'_>, inst: &Inst) -> &'p Access {
    match &machine.grid.program.extras[inst.ext as usize] {
        // SAFETY: the caller's promise.
        Extra::Access(access) => unsafe { &*std::ptr::from_ref(access) },
        _ => unreachable!("memory instructions are lowered with an access"),
    }
}

/// Addresses as polls record them, so that they can be looked at again.
pub fn generic<const SPACE: u8>(addresses: &[u64; LANES]) -> [u64; LANES] {
    if SPACE == space::SHARED {
        addresses.map(|address| shared_address(address as u32))
    } else {
        *addresses
    }
}

impl<const SPACE: u8, const SIZE: usize> Code for Load<SPACE, SIZE> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract; pointers that `locate` gives are good for the bytes asked for.
        unsafe {
            let access = access_of(machine, inst);
            let count = access.registers.len();
            let bytes = SIZE * count;
            let addresses = machine.addresses::<SPACE>(inst.a, access);
            let located = match machine.locate::<SPACE>(
                &addresses,
                bytes,
                bytes.next_power_of_two(),
                Use::Read,
            ) {
                Ok(located) => located,
                Err(flow) => return flow,
            };
            if access.order != Order::Weak && machine.polled::<SPACE>(&addresses, &located, bytes) {
                return Flow::Jump;
            }
            if machine.is_watched() {
                machine.observe::<SPACE>(&addresses, access, bytes, Use::Read, None);
            }
            for (element, register) in access.registers.iter().enumerate() {
                let Some((slot, wide)) = *register else {
                    continue;
                };
                if SIZE <= 4 && !wide && access.order == Order::Weak {
                    load_words::<SIZE>(machine, &located, access, bytes, element, slot);
                    continue;
                }
                let values = if access.order == Order::Weak {
                    gather::<SIZE>(machine, &located, bytes, element)
                } else {
                    gather_ordered::<SIZE>(machine, &located, bytes, element)
                };
                deliver::<SIZE>(machine, access, slot, wide, &values);
            }
            Flow::Next
        }
    }
}

impl Machine<'_> {
    /// Whether the read parks the fragment, as a poll that sees nothing new.
    ///
    /// # Safety
    /// `located` is good for `bytes` in each active lane.
    #[inline(never)]
    unsafe fn polled<const SPACE: u8>(
        &mut self,
        addresses: &[u64; LANES],
        located: &Located,
        bytes: usize,
    ) -> bool {
        if bytes > 8 {
            return false;
        }
        let mut values = [0; LANES];
        for lane in Lanes(self.mask) {
            let mut value = [0u8; 8];
            // SAFETY: the caller's promise.
            unsafe {
                std::ptr::copy_nonoverlapping(located.lane(lane, bytes), value.as_mut_ptr(), bytes)
            };
            values[lane] = u64::from_le_bytes(value);
        }
        let parked = self.parks_on_poll(&generic::<SPACE>(addresses), &values, bytes as u32);
        if self.grid.options.counters && !parked {
            self.grid.traffic[self.pc as usize].polls += 1;
        }
        parked
    }
}

/// Reads element `element` of each lane into a register of 32 bits.
///
/// # Safety
/// `located` is good for `bytes` in each active lane, and the slot is a register of the grid's program.
#[inline(always)]
unsafe fn load_words<const SIZE: usize>(
    machine: &mut Machine<'_>,
    located: &Located,
    access: &Access,
    bytes: usize,
    element: usize,
    slot: Slot,
) {
    let at = element * SIZE;
    let mut some = [0; LANES];
    // SAFETY: the caller's promise; inactive lanes have a place in `Near`, too.
    unsafe {
        let full = machine.mask == FULL;
        // Straight into the register where it can be.
        let values: &mut [u32; LANES] = if full {
            &mut (*machine.pointer(slot)).0
        } else {
            &mut some
        };
        match located {
            Located::Uniform(first) => *values = [read::<SIZE>(first.add(at)) as u32; LANES],
            Located::Linear(first) if SIZE == 4 && bytes == 4 => {
                *values = first.cast::<[u32; LANES]>().read_unaligned();
            }
            Located::Linear(first) => {
                for lane in 0..LANES {
                    values[lane] = read::<SIZE>(first.add(lane * bytes + at)) as u32;
                }
            }
            Located::Near(base, distances) => {
                let base = base.wrapping_add(at);
                for lane in 0..LANES {
                    let place = base.wrapping_offset(distances[lane] as isize);
                    values[lane] = read::<SIZE>(place) as u32;
                }
            }
            Located::Scattered(lanes) => {
                for lane in Lanes(machine.mask) {
                    values[lane] = read::<SIZE>(lanes[lane].add(at)) as u32;
                }
            }
        }
        if SIZE < 4 && access.ty.is_signed() {
            let shift = 32 - 8 * SIZE as u32;
            for value in values.iter_mut() {
                *value = ((*value << shift) as i32 >> shift) as u32;
            }
        }
        if !full {
            machine.set_row(slot, &some);
        }
    }
}

/// Element `element` of each lane, zero-extended.
#[inline(always)]
unsafe fn gather<const SIZE: usize>(
    machine: &Machine<'_>,
    located: &Located,
    bytes: usize,
    element: usize,
) -> [u64; LANES] {
    let mut values = [0u64; LANES];
    // SAFETY: the caller's pointers are good for `bytes`.
    unsafe {
        match located {
            Located::Uniform(first) => values = [read::<SIZE>(first.add(element * SIZE)); LANES],
            Located::Linear(first) => {
                for lane in 0..LANES {
                    values[lane] = read::<SIZE>(first.add(lane * bytes + element * SIZE));
                }
            }
            _ => {
                for lane in Lanes(machine.mask) {
                    values[lane] = read::<SIZE>(located.lane(lane, bytes).add(element * SIZE));
                }
            }
        }
    }
    values
}

/// As `gather`, for memory that the host program may be writing: each element is read by one access, and what is read
/// later is not older.
#[inline(never)]
unsafe fn gather_ordered<const SIZE: usize>(
    machine: &Machine<'_>,
    located: &Located,
    bytes: usize,
    element: usize,
) -> [u64; LANES] {
    let mut values = [0u64; LANES];
    for lane in Lanes(machine.mask) {
        // SAFETY: the caller's pointers are good for `bytes` and aligned.
        values[lane] = unsafe {
            let from = located.lane(lane, bytes).add(element * SIZE);
            match SIZE {
                1 => u64::from(from.read_volatile()),
                2 => u64::from(from.cast::<u16>().read_volatile()),
                4 => u64::from(from.cast::<u32>().read_volatile()),
                _ => from.cast::<u64>().read_volatile(),
            }
        };
    }
    fence(Ordering::Acquire);
    values
}

#[inline(always)]
unsafe fn read<const SIZE: usize>(from: *const u8) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        match SIZE {
            1 => u64::from(from.read()),
            2 => u64::from(from.cast::<u16>().read_unaligned()),
            4 => u64::from(from.cast::<u32>().read_unaligned()),
            _ => from.cast::<u64>().read_unaligned(),
        }
    }
}

/// Writes loaded values to a register, extended as the type says.
#[inline(always)]
unsafe fn deliver<const SIZE: usize>(
    machine: &mut Machine<'_>,
    access: &Access,
    slot: Slot,
    wide: bool,
    values: &[u64; LANES],
) {
    let mut values = *values;
    if SIZE < 8 && access.ty.is_signed() {
        let shift = 64 - 8 * SIZE as u32;
        for value in &mut values {
            *value = ((*value << shift) as i64 >> shift) as u64;
        }
    }
    // SAFETY: passed on.
    unsafe {
        if wide {
            machine.set_wide(slot, &values);
        } else {
            let mut words = [0; LANES];
            for lane in 0..LANES {
                words[lane] = values[lane] as u32;
            }
            machine.set_row(slot, &words);
        }
    }
}

impl<const SPACE: u8, const SIZE: usize> Code for Store<SPACE, SIZE> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract; pointers that `locate` gives are good for the bytes asked for.
        unsafe {
            let access = access_of(machine, inst);
            let bytes = SIZE * access.registers.len();
            let addresses = machine.addresses::<SPACE>(inst.a, access);
            let located = match machine.locate::<SPACE>(
                &addresses,
                bytes,
                bytes.next_power_of_two(),
                Use::Write,
            ) {
                Ok(located) => located,
                Err(flow) => return flow,
            };
            if machine.is_watched() {
                let values = digest(machine, access);
                machine.observe::<SPACE>(&addresses, access, bytes, Use::Write, Some(&values));
            }
            if SPACE != space::LOCAL {
                machine.warp.stores += 1;
            }
            for (element, register) in access.registers.iter().enumerate() {
                let Some((slot, wide)) = *register else {
                    continue;
                };
                if SIZE <= 4 && !wide && access.order == Order::Weak {
                    store_words::<SIZE>(machine, &located, bytes, element, slot);
                    continue;
                }
                let values = zero_extended(machine, slot, wide);
                match &located {
                    _ if access.order != Order::Weak => {
                        scatter_ordered::<SIZE>(machine, &located, bytes, element, &values);
                    }
                    Located::Linear(first) if machine.mask == FULL => {
                        for lane in 0..LANES {
                            write::<SIZE>(first.add(lane * bytes + element * SIZE), values[lane]);
                        }
                    }
                    _ => {
                        for lane in Lanes(machine.mask) {
                            write::<SIZE>(
                                located.lane(lane, bytes).add(element * SIZE),
                                values[lane],
                            );
                        }
                    }
                }
            }
            Flow::Next
        }
    }
}

/// Writes element `element` of each lane out of a register of 32 bits.
///
/// # Safety
/// `located` is good for `bytes` in each active lane, and the slot is one of the grid's program.
#[inline(always)]
unsafe fn store_words<const SIZE: usize>(
    machine: &Machine<'_>,
    located: &Located,
    bytes: usize,
    element: usize,
    slot: Slot,
) {
    let at = element * SIZE;
    // SAFETY: the caller's promise.
    unsafe {
        let values = machine.row(slot);
        match located {
            Located::Linear(first) if SIZE == 4 && bytes == 4 && machine.mask == FULL => {
                first.cast::<[u32; LANES]>().write_unaligned(values);
            }
            Located::Linear(first) if machine.mask == FULL => {
                for lane in 0..LANES {
                    write::<SIZE>(first.add(lane * bytes + at), u64::from(values[lane]));
                }
            }
            Located::Near(base, distances) if machine.mask == FULL => {
                let base = base.wrapping_add(at);
                for lane in 0..LANES {
                    let place = base.wrapping_offset(distances[lane] as isize);
                    write::<SIZE>(place, u64::from(values[lane]));
                }
            }
            _ => {
                for lane in Lanes(machine.mask) {
                    let place = located.lane(lane, bytes).add(at);
                    write::<SIZE>(place, u64::from(values[lane]));
                }
            }
        }
    }
}

/// A register, zero-extended.
///
/// # Safety
/// The slot is one of the grid's program, and of two rows if it is wide.
#[inline(always)]
unsafe fn zero_extended(machine: &Machine<'_>, slot: Slot, wide: bool) -> [u64; LANES] {
    // SAFETY: passed on.
    unsafe {
        if wide {
            return machine.wide(slot);
        }
        let row = machine.row(slot);
        let mut values = [0; LANES];
        for lane in 0..LANES {
            values[lane] = u64::from(row[lane]);
        }
        values
    }
}

/// What the lanes write, in 64 bits: enough to tell whether lanes that write to one place write the same.
#[inline(never)]
unsafe fn digest(machine: &Machine<'_>, access: &Access) -> [u64; LANES] {
    let mut digest = [0u64; LANES];
    for (slot, wide) in access.registers.iter().flatten() {
        // SAFETY: slots of the program.
        let values = unsafe { zero_extended(machine, *slot, *wide) };
        for lane in 0..LANES {
            digest[lane] = digest[lane].rotate_left(21) ^ values[lane];
        }
    }
    digest
}

/// Stores to memory that the host program may be reading: each element by one access, after all that was stored before.
#[inline(never)]
unsafe fn scatter_ordered<const SIZE: usize>(
    machine: &Machine<'_>,
    located: &Located,
    bytes: usize,
    element: usize,
    values: &[u64; LANES],
) {
    fence(Ordering::Release);
    for lane in Lanes(machine.mask) {
        // SAFETY: the caller's pointers are good for `bytes` and aligned.
        unsafe {
            let to = located.lane(lane, bytes).add(element * SIZE);
            match SIZE {
                1 => to.write_volatile(values[lane] as u8),
                2 => to.cast::<u16>().write_volatile(values[lane] as u16),
                4 => to.cast::<u32>().write_volatile(values[lane] as u32),
                _ => to.cast::<u64>().write_volatile(values[lane]),
            }
        }
    }
}

#[inline(always)]
unsafe fn write<const SIZE: usize>(to: *mut u8, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        match SIZE {
            1 => to.write(value as u8),
            2 => to.cast::<u16>().write_unaligned(value as u16),
            4 => to.cast::<u32>().write_unaligned(value as u32),
            _ => to.cast::<u64>().write_unaligned(value),
        }
    }
}
