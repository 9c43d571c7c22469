//! Double-precision forms: a chain of fused operations in ascending k.

use super::{MmaShape, Row};
use crate::num::{Rounding, float64};

/// `d = a * b + c` for `m8n8k4` and `m16n8k{4,8,16}`.
#[inline(always)]
pub(super) fn run(
    shape: MmaShape,
    a: &[impl Row],
    b: &[impl Row],
    c: &[impl Row],
    d: &mut [[u32; 32]],
) {
    // Registers of A alternate between the upper and the lower eight rows, if there are lower ones.
    let halves = shape.m as usize / 8;
    for half in 0..halves {
        for g in 0..8 {
            for column in 0..8 {
                let (register, lane) = (2 * half + column % 2, 4 * g + column / 2);
                let mut sum = get(c, register, lane);
                for k in 0..shape.k as usize {
                    let x = get(a, halves * (k / 4) + half, 4 * g + k % 4);
                    let y = get(b, k / 4, 4 * column + k % 4);
                    sum = float64::fma(x, y, sum, Rounding::Nearest);
                }
                set(d, register, lane, sum);
            }
        }
    }
}

/// The value of a lane in a 64-bit register, which is two rows of words.
#[inline(always)]
fn get(registers: &[impl Row], register: usize, lane: usize) -> f64 {
    let words = registers[2 * register + lane / 16].borrow();
    let (low, high) = (words[2 * lane % 32], words[2 * lane % 32 + 1]);
    f64::from_bits(u64::from(high) << 32 | u64::from(low))
}

#[inline(always)]
fn set(registers: &mut [[u32; 32]], register: usize, lane: usize, value: f64) {
    let words = &mut registers[2 * register + lane / 16];
    words[2 * lane % 32] = value.to_bits() as u32;
    words[2 * lane % 32 + 1] = (value.to_bits() >> 32) as u32;
}
