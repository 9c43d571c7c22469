//! `ld` and `st`.

use crate::exec::address::{Located, Use, space};
use crate::exec::inst::{Flow, Handler, Inst};
use crate::exec::isa::{Code, handler};
use crate::exec::machine::{Lanes, Machine};
use crate::exec::observe::Written;
use crate::exec::program::{Access, Extra, Order};
use crate::exec::row::{LANES, Slot};
use crate::exec::standstill::shared_address;

use super::elements::{load_elements, store_elements, zero_extended};

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
        space::CLUSTER => sizes!(space::CLUSTER),
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
        space::CLUSTER => sizes!(space::CLUSTER),
        space::LOCAL => sizes!(space::LOCAL),
        space::PARAM => sizes!(space::PARAM),
        space::CONST => sizes!(space::CONST),
        _ => return None,
    })
}

impl Machine<'_> {
    /// The bytes of an ordinary access to shared memory by lanes that nobody watches, if they are where they should be.
    ///
    /// # Safety
    /// As for [`Handler`].
    #[inline(always)]
    unsafe fn locate_quickly<const SPACE: u8>(
        &mut self,
        slot: Slot,
        access: &Access,
        bytes: usize,
        align: usize,
    ) -> Option<Located> {
        if SPACE != space::SHARED || access.order != Order::Weak || self.is_watched() {
            return None;
        }
        let mut addresses = [0; LANES];
        if access.wide_address {
            // SAFETY: passed on.
            let offsets = unsafe { self.wide(slot) };
            for lane in 0..LANES {
                addresses[lane] = offsets[lane] as u32;
            }
        } else {
            // SAFETY: passed on.
            addresses = unsafe { self.row(slot) };
        }
        for address in &mut addresses {
            *address = address.wrapping_add(access.offset as u32);
        }
        self.together_in_shared(&addresses, bytes, align)
    }

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
            if SPACE == space::SHARED || SPACE == space::LOCAL || SPACE == space::CLUSTER {
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
    if SPACE == space::SHARED || SPACE == space::CLUSTER {
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
            let align = bytes.next_power_of_two();
            if let Some(located) = machine.locate_quickly::<SPACE>(inst.a, access, bytes, align) {
                load_elements::<SIZE>(machine, &located, access, bytes);
                return Flow::Next;
            }
            let addresses = machine.addresses::<SPACE>(inst.a, access);
            let located = match machine.locate::<SPACE>(&addresses, bytes, align, Use::Read) {
                Ok(located) => located,
                Err(flow) => return flow,
            };
            if access.order != Order::Weak && machine.polled::<SPACE>(&addresses, &located, bytes) {
                return Flow::Jump;
            }
            if machine.is_watched() {
                machine.observe::<SPACE>(&addresses, access, bytes, Use::Read, None);
            }
            load_elements::<SIZE>(machine, &located, access, bytes);
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

impl<const SPACE: u8, const SIZE: usize> Code for Store<SPACE, SIZE> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract; pointers that `locate` gives are good for the bytes asked for.
        unsafe {
            let access = access_of(machine, inst);
            let bytes = SIZE * access.registers.len();
            let align = bytes.next_power_of_two();
            if let Some(located) = machine.locate_quickly::<SPACE>(inst.a, access, bytes, align) {
                machine.warp.stores += 1;
                store_elements::<SIZE>(machine, &located, access, bytes);
                return Flow::Next;
            }
            let addresses = machine.addresses::<SPACE>(inst.a, access);
            let located = match machine.locate::<SPACE>(&addresses, bytes, align, Use::Write) {
                Ok(located) => located,
                Err(flow) => return flow,
            };
            if machine.is_watched() {
                let written = written::<SIZE>(machine, &located, access, bytes);
                machine.observe::<SPACE>(&addresses, access, bytes, Use::Write, Some(&written));
            }
            if SPACE != space::LOCAL {
                machine.warp.stores += 1;
            }
            store_elements::<SIZE>(machine, &located, access, bytes);
            Flow::Next
        }
    }
}

/// What the lanes write, and whether it is there already.
///
/// # Safety
/// `located` is good for `bytes` in each active lane, and the slots are registers of the grid's program.
#[inline(never)]
unsafe fn written<const SIZE: usize>(
    machine: &Machine<'_>,
    located: &Located,
    access: &Access,
    bytes: usize,
) -> Written {
    let mut written = Written {
        digests: [0; LANES],
        unchanged: true,
    };
    // Registers may be wider than what is stored.
    let stored = u64::MAX >> (64 - 8 * SIZE);
    for (element, register) in access.registers.iter().enumerate() {
        let Some((slot, wide)) = *register else {
            continue;
        };
        // SAFETY: the caller's promises.
        let values = unsafe { zero_extended(machine, slot, wide) };
        for lane in Lanes(machine.mask) {
            let value = values[lane] & stored;
            let mut old = [0u8; 8];
            // SAFETY: the caller's promises.
            unsafe {
                let from = located.lane(lane, bytes).add(element * SIZE);
                std::ptr::copy_nonoverlapping(from, old.as_mut_ptr(), SIZE);
            }
            written.unchanged &= u64::from_le_bytes(old) == value;
            let digest = &mut written.digests[lane];
            *digest = digest.rotate_left(21) ^ value;
        }
    }
    written
}
