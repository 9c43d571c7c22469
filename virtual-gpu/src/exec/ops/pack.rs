//! Registers made of parts, and bytes permuted.

use crate::exec::inst::{Flow, Handler, Inst};
use crate::exec::isa::{Code, handler};
use crate::exec::lanes::{binary, split};
use crate::exec::machine::Machine;
use crate::exec::program::Extra;
use crate::exec::row::{LANES, Slot};

/// Four parts, from or to a register of `WHOLE` bits.
struct Pack<const WHOLE: u32>;
struct Unpack<const WHOLE: u32>;

/// Parts of a register.
const COUNT: usize = 4;

/// Packs two parts, `a` and `b`, into a register of so many bits.
pub fn pack_pair(bits: u32) -> Handler {
    match bits {
        64 => binary::<u64, u32, u32, _>(|a, b| u64::from(a) | u64::from(b) << 32),
        32 => binary::<u32, u32, u32, _>(|a, b| a & 0xffff | b << 16),
        _ => binary::<u32, u32, u32, _>(|a, b| a & 0xff | (b & 0xff) << 8),
    }
}

/// Takes a register of so many bits apart into two parts; the second goes to the slot of the immediate.
pub fn unpack_pair(bits: u32) -> Handler {
    match bits {
        64 => split::<u64, _, _>(|a| a as u32, |a| (a >> 32) as u32),
        32 => split::<u32, _, _>(|a| a & 0xffff, |a| a >> 16),
        _ => split::<u32, _, _>(|a| a & 0xff, |a| a >> 8 & 0xff),
    }
}

/// Packs four parts into 64 bits.
pub fn pack64() -> Handler {
    handler::<Pack<64>>()
}

/// Packs four parts into 32 bits.
pub fn pack32() -> Handler {
    handler::<Pack<32>>()
}

/// Takes 64 bits apart into four parts.
pub fn unpack64() -> Handler {
    handler::<Unpack<64>>()
}

/// Takes 32 bits apart into four parts.
pub fn unpack32() -> Handler {
    handler::<Unpack<32>>()
}

/// The slots of the parts.
///
/// # Safety
/// The machine's program is not changed or dropped while the reference lives.
#[inline(always)]
unsafe fn parts<'p>(machine: &Machine<'_>, inst: &Inst) -> &'p [Option<Slot>] {
    match &machine.grid.program.extras[inst.ext as usize] {
        // SAFETY: the caller's promise.
        Extra::Parts(parts) => unsafe { &*std::ptr::from_ref(parts.as_slice()) },
        _ => unreachable!("pack and unpack are lowered with their parts"),
    }
}

impl<const WHOLE: u32> Code for Pack<WHOLE> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let bits = WHOLE / COUNT as u32;
        let part_mask = u32::MAX >> (32 - bits);
        // SAFETY: the handler's contract.
        unsafe {
            let slots = parts(machine, inst);
            if WHOLE == 64 {
                let mut out = [0u64; LANES];
                for part in 0..COUNT {
                    let Some(Some(slot)) = slots.get(part) else {
                        continue;
                    };
                    let values = machine.row(*slot);
                    for lane in 0..LANES {
                        out[lane] |= u64::from(values[lane] & part_mask) << (bits * part as u32);
                    }
                }
                machine.set_wide(inst.d, &out);
            } else {
                let mut out = [0u32; LANES];
                for part in 0..COUNT {
                    let Some(Some(slot)) = slots.get(part) else {
                        continue;
                    };
                    let values = machine.row(*slot);
                    for lane in 0..LANES {
                        out[lane] |= (values[lane] & part_mask) << (bits * part as u32);
                    }
                }
                machine.set_row(inst.d, &out);
            }
        }
        Flow::Next
    }
}

impl<const WHOLE: u32> Code for Unpack<WHOLE> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let bits = WHOLE / COUNT as u32;
        let part_mask = u32::MAX >> (32 - bits);
        // SAFETY: the handler's contract.
        unsafe {
            let slots = parts(machine, inst);
            let mut values = [0; LANES];
            if WHOLE == 64 {
                values = machine.wide(inst.a);
            } else {
                let row = machine.row(inst.a);
                for lane in 0..LANES {
                    values[lane] = u64::from(row[lane]);
                }
            }
            for part in 0..COUNT {
                let Some(Some(slot)) = slots.get(part) else {
                    continue;
                };
                let mut out = [0u32; LANES];
                for lane in 0..LANES {
                    out[lane] = (values[lane] >> (bits * part as u32)) as u32 & part_mask;
                }
                machine.set_row(*slot, &out);
            }
        }
        Flow::Next
    }
}

/// `prmt` in its default mode: four selectors of four bits; the highest bit of each replicates the sign of its byte.
#[inline(always)]
pub fn permute(a: u32, b: u32, c: u32) -> u32 {
    let bytes = u64::from(a) | u64::from(b) << 32;
    let mut out = 0;
    for index in 0..4 {
        let selector = c >> (4 * index) & 15;
        let byte = (bytes >> (8 * (selector & 7))) as u8;
        let byte = if selector & 8 != 0 {
            ((byte as i8) >> 7) as u8
        } else {
            byte
        };
        out |= u32::from(byte) << (8 * index);
    }
    out
}

/// `prmt` in the other modes: the bytes at `selectors`.
#[inline(always)]
pub fn permute_by(a: u32, b: u32, selectors: [u32; 4]) -> u32 {
    let bytes = u64::from(a) | u64::from(b) << 32;
    u32::from_le_bytes(selectors.map(|selector| (bytes >> (8 * (selector & 7))) as u8))
}
