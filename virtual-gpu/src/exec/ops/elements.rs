//! Elements of loads and stores, between the bytes of the lanes and their registers.

use crate::exec::address::Located;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::program::{Access, Order};
use crate::exec::row::{FULL, LANES, Slot};
use std::sync::atomic::{Ordering, fence};

/// Reads the elements of each lane into their registers.
///
/// # Safety
/// As for [`load_words`].
#[inline(always)]
pub unsafe fn load_elements<const SIZE: usize>(
    machine: &mut Machine<'_>,
    located: &Located,
    access: &Access,
    bytes: usize,
) {
    // SAFETY: passed on.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if SIZE == 4
            && let Located::Linear(first) = located
            && let [
                Some((x, false)),
                Some((y, false)),
                Some((z, false)),
                Some((w, false)),
            ] = access.registers[..]
            && access.order == Order::Weak
            && machine.mask == FULL
        {
            return load_fours(machine, *first, [x, y, z, w]);
        }
        for (element, register) in access.registers.iter().enumerate() {
            let Some((slot, wide)) = *register else {
                continue;
            };
            if SIZE <= 4 && !wide && access.order == Order::Weak {
                load_words::<SIZE>(machine, located, access, bytes, element, slot);
                continue;
            }
            let values = if access.order == Order::Weak {
                gather::<SIZE>(machine, located, bytes, element)
            } else {
                gather_ordered::<SIZE>(machine, located, bytes, element)
            };
            deliver::<SIZE>(machine, access, slot, wide, &values);
        }
    }
}

/// Reads four words of each lane, all that lie one after the other, into registers of 32 bits.
///
/// # Safety
/// `first` is good for 16 bytes a lane, and the slots are registers of the grid's program.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_fours(machine: &mut Machine<'_>, first: *const u8, slots: [Slot; 4]) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise; a register has eight times four lanes.
    unsafe {
        let [x, y, z, w] = slots.map(|slot| machine.pointer(slot).cast::<__m128i>());
        for four in 0..LANES / 4 {
            let from = first.cast::<__m128i>().add(4 * four);
            let (a, b) = (_mm_loadu_si128(from), _mm_loadu_si128(from.add(1)));
            let (c, d) = (_mm_loadu_si128(from.add(2)), _mm_loadu_si128(from.add(3)));
            let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
            _mm_storeu_si128(x.add(four), _mm_unpacklo_epi64(ab, cd));
            _mm_storeu_si128(y.add(four), _mm_unpackhi_epi64(ab, cd));
            let (ab, cd) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
            _mm_storeu_si128(z.add(four), _mm_unpacklo_epi64(ab, cd));
            _mm_storeu_si128(w.add(four), _mm_unpackhi_epi64(ab, cd));
        }
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

/// Writes the elements of each lane out of their registers.
///
/// # Safety
/// As for [`store_words`].
#[inline(always)]
pub unsafe fn store_elements<const SIZE: usize>(
    machine: &Machine<'_>,
    located: &Located,
    access: &Access,
    bytes: usize,
) {
    // SAFETY: passed on.
    unsafe {
        for (element, register) in access.registers.iter().enumerate() {
            let Some((slot, wide)) = *register else {
                continue;
            };
            if SIZE <= 4 && !wide && access.order == Order::Weak {
                store_words::<SIZE>(machine, located, bytes, element, slot);
                continue;
            }
            let values = zero_extended(machine, slot, wide);
            match located {
                _ if access.order != Order::Weak => {
                    scatter_ordered::<SIZE>(machine, located, bytes, element, &values);
                }
                Located::Linear(first) if machine.mask == FULL => {
                    for lane in 0..LANES {
                        write::<SIZE>(first.add(lane * bytes + element * SIZE), values[lane]);
                    }
                }
                _ => {
                    for lane in Lanes(machine.mask) {
                        write::<SIZE>(located.lane(lane, bytes).add(element * SIZE), values[lane]);
                    }
                }
            }
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
pub unsafe fn zero_extended(machine: &Machine<'_>, slot: Slot, wide: bool) -> [u64; LANES] {
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
