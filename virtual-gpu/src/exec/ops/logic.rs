//! Logic and bit fields.

use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::Machine;
use crate::exec::row::LANES;

/// `lop3.b32` by its truth table, which is in `imm`.
pub struct Lop3;

impl Code for Lop3 {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        unsafe {
            let (a, b, c) = (
                machine.row(inst.a),
                machine.row(inst.b),
                machine.row(inst.c),
            );
            // Each bit of the table becomes a mask over all bits, so that the loop has no branch.
            let table: [u32; 8] = std::array::from_fn(|bit| {
                if inst.imm >> bit & 1 != 0 {
                    u32::MAX
                } else {
                    0
                }
            });
            let mut out = [0u32; LANES];
            for lane in 0..LANES {
                let (a, b, c) = (a[lane], b[lane], c[lane]);
                let low = (table[0] & !c | table[1] & c) & !b | (table[2] & !c | table[3] & c) & b;
                let high = (table[4] & !c | table[5] & c) & !b | (table[6] & !c | table[7] & c) & b;
                out[lane] = low & !a | high & a;
            }
            machine.set_row(inst.d, &out);
        }
        Flow::Next
    }
}

/// `bfi`: field in `a`, whole in `b`, start in `c`, length in the slot of `imm`.
pub struct Insert<const BITS: u32>;

impl<const BITS: u32> Code for Insert<BITS> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        unsafe {
            let (starts, lengths) = (machine.row(inst.c), machine.row(inst.extra_slot()));
            let read = |machine: &Machine<'_>, slot| {
                if BITS == 64 {
                    machine.wide(slot)
                } else {
                    machine.row(slot).map(u64::from)
                }
            };
            let (a, b) = (read(machine, inst.a), read(machine, inst.b));
            let mut out = [0u64; LANES];
            for lane in 0..LANES {
                let (start, length) = (starts[lane] & 0xff, lengths[lane] & 0xff);
                let ones = if length >= 64 {
                    u64::MAX
                } else {
                    (1 << length) - 1
                };
                let field = if start >= BITS { 0 } else { ones << start };
                out[lane] = b[lane] & !field
                    | if start >= BITS {
                        0
                    } else {
                        a[lane] << start & field
                    };
            }
            if BITS == 64 {
                machine.set_wide(inst.d, &out);
            } else {
                machine.set_row(inst.d, &out.map(|value| value as u32));
            }
        }
        Flow::Next
    }
}

/// `bfe.u`: `length` bits of `a` from `start` on; bits beyond the width are zero.
#[inline(always)]
pub fn extract_unsigned(a: u64, start: u32, length: u32, bits: u32) -> u64 {
    let (start, length) = (start & 0xff, length & 0xff);
    let ones = if length >= 64 {
        u64::MAX
    } else {
        (1 << length) - 1
    };
    if start >= bits { 0 } else { a >> start & ones }
}

/// `bfe.s`: the field, extended by its highest bit, or by the sign of `a` where it reaches beyond the width.
#[inline(always)]
pub fn extract_signed(a: u64, start: u32, length: u32, bits: u32) -> u64 {
    let (start, length) = (start & 0xff, length & 0xff);
    if length == 0 {
        return 0;
    }
    let a = (a << (64 - bits)) as i64 >> (64 - bits);
    let shifted = if start >= bits { a >> 63 } else { a >> start };
    if length >= 64 {
        shifted as u64
    } else {
        (shifted << (64 - length) >> (64 - length)) as u64
    }
}

/// `fns`: the position of the n-th set bit from `base`, upwards or downwards.
#[inline(always)]
pub fn find_nth_set(mask: u32, base: u32, offset: u32) -> u32 {
    let offset = offset as i32;
    if base > 31 {
        return u32::MAX;
    }
    if offset == 0 {
        return if mask >> base & 1 != 0 {
            base
        } else {
            u32::MAX
        };
    }
    let mut left = offset.unsigned_abs();
    let mut position = base as i32;
    let step = offset.signum();
    while (0..32).contains(&position) {
        if mask >> position & 1 != 0 {
            left -= 1;
            if left == 0 {
                return position as u32;
            }
        }
        position += step;
    }
    u32::MAX
}

#[inline(always)]
fn byte(x: u32, index: u32, signed: bool) -> i64 {
    let byte = (x >> (8 * index)) as u8;
    if signed {
        i64::from(byte as i8)
    } else {
        i64::from(byte)
    }
}

/// `dp4a`: four products of bytes, added to `c`.
#[inline(always)]
pub fn dot4(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool) -> u32 {
    let mut sum = 0;
    for index in 0..4 {
        sum += byte(a, index, a_signed) * byte(b, index, b_signed);
    }
    c.wrapping_add(sum as u32)
}

/// `dp2a`: two products of 16-bit values of `a` with bytes `first` and `first + 1` of `b`, added to `c`.
#[inline(always)]
pub fn dot2(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool, first: u32) -> u32 {
    let mut sum = 0;
    for index in 0..2 {
        let half = (a >> (16 * index)) as u16;
        let half = if a_signed {
            i64::from(half as i16)
        } else {
            i64::from(half)
        };
        sum += half * byte(b, first + index, b_signed);
    }
    c.wrapping_add(sum as u32)
}
