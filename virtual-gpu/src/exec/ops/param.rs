//! Parts of `.param` variables of device functions, which are rows of 32-bit words.

use crate::exec::inst::{Flow, Handler, Inst};
use crate::exec::isa::{Code, handler};
use crate::exec::machine::Machine;
use crate::exec::row::LANES;

struct StoreWide;
struct LoadWide;
struct StorePart;
struct LoadPart;

/// A 64-bit register to two words.
pub fn store_wide() -> Handler {
    handler::<StoreWide>()
}

/// Two words to a 64-bit register.
pub fn load_wide() -> Handler {
    handler::<LoadWide>()
}

/// A value of less than 32 bits, or from a wider register, to part of a word.
pub fn store_part() -> Handler {
    handler::<StorePart>()
}

/// Part of a word to a register.
pub fn load_part() -> Handler {
    handler::<LoadPart>()
}

/// A word to a 64-bit register.
pub fn load_extended() -> Handler {
    handler::<LoadPart>()
}

impl Code for StoreWide {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract; the parameter has both words.
        unsafe {
            let values = machine.wide(inst.a);
            machine.set_row(inst.d, &values.map(|value| value as u32));
            machine.set_row(inst.d.offset(1), &values.map(|value| (value >> 32) as u32));
        }
        Flow::Next
    }
}

impl Code for LoadWide {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract; the parameter has both words.
        unsafe {
            let (low, high) = (machine.row(inst.a), machine.row(inst.a.offset(1)));
            let values =
                std::array::from_fn(|lane| u64::from(low[lane]) | u64::from(high[lane]) << 32);
            machine.set_wide(inst.d, &values);
        }
        Flow::Next
    }
}

/// Size in bits, whether it is signed, whether the register is wide.
fn shape(inst: &Inst) -> (u32, bool, bool) {
    (
        8 * u32::from(inst.flags & 15),
        inst.flags & 16 != 0,
        inst.flags & 32 != 0,
    )
}

impl Code for StorePart {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let (bits, _, wide) = shape(inst);
        let ones = u32::MAX >> (32 - bits);
        // SAFETY: the handler's contract.
        unsafe {
            let values = if wide {
                machine.wide(inst.a).map(|value| value as u32)
            } else {
                machine.row(inst.a)
            };
            let old = machine.row(inst.d);
            let mut out = [0; LANES];
            for lane in 0..LANES {
                out[lane] = old[lane] & !(ones << inst.imm) | (values[lane] & ones) << inst.imm;
            }
            machine.set_row(inst.d, &out);
        }
        Flow::Next
    }
}

impl Code for LoadPart {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let (bits, signed, wide) = shape(inst);
        // SAFETY: the handler's contract.
        unsafe {
            let words = machine.row(inst.a);
            let mut out = [0u64; LANES];
            for lane in 0..LANES {
                let value = u64::from(words[lane] >> inst.imm) << (64 - bits);
                out[lane] = if signed {
                    (value as i64 >> (64 - bits)) as u64
                } else {
                    value >> (64 - bits)
                };
            }
            if wide {
                machine.set_wide(inst.d, &out);
            } else {
                machine.set_row(inst.d, &out.map(|value| value as u32));
            }
        }
        Flow::Next
    }
}
