//! `cvt` where it has no code of its own.

use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::program::Extra;
use crate::exec::row::LANES;
use crate::num::convert::Convert;

fn conversion(machine: &Machine<'_>, inst: &Inst) -> Convert {
    match &machine.grid.program.extras[inst.ext as usize] {
        Extra::Convert(convert) => *convert,
        _ => unreachable!("cvt is lowered with its conversion"),
    }
}

/// Any conversion of one value, between registers of 32 or 64 bits.
pub struct General<const WIDE_D: bool, const WIDE_A: bool>;

impl<const WIDE_D: bool, const WIDE_A: bool> Code for General<WIDE_D, WIDE_A> {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let convert = conversion(machine, inst);
        // SAFETY: the handler's contract.
        unsafe {
            let a = if WIDE_A {
                machine.wide(inst.a)
            } else {
                machine.row(inst.a).map(u64::from)
            };
            let mut out = [0u64; LANES];
            for lane in Lanes(machine.mask) {
                out[lane] = convert.apply(a[lane]);
            }
            if WIDE_D {
                machine.set_wide(inst.d, &out);
            } else {
                machine.set_row(inst.d, &out.map(|value| value as u32));
            }
        }
        Flow::Next
    }
}

/// Two f32 to a packed value: `a` becomes the upper half.
pub struct PackFloats;

impl Code for PackFloats {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let convert = conversion(machine, inst);
        // SAFETY: the handler's contract.
        unsafe {
            let (a, b) = (machine.row(inst.a), machine.row(inst.b));
            let mut out = [0u32; LANES];
            for lane in Lanes(machine.mask) {
                out[lane] = convert.pack(f32::from_bits(a[lane]), f32::from_bits(b[lane]));
            }
            machine.set_row(inst.d, &out);
        }
        Flow::Next
    }
}
