//! Between registers and matrices.
//!
//! All layouts of `m16n8` are one (PTX ISA, "Matrix Fragments for mma"): with g = lane / 4, t = lane % 4 and e
//! elements in a register, register 2 q + h of A holds row g + 8 h and columns 4 e q + e t onwards, register q of B
//! holds column g and rows 4 e q + e t onwards, and C holds rows g and g + 8, columns 2 t and 2 t + 1. Four
//! neighbouring lanes thus hold 4 e neighbouring elements.

use super::{Mma, Row};
use crate::num::half::{f16_to_f32, f32_to_f16};
use crate::num::{Rounding, ScalarType, float32, fp8};

/// Longest sum.
pub(super) const MAX_K: usize = 32;

/// A and B as single-precision numbers, which hold all 8-bit, 16-bit and `.tf32` values; B by rows. There is room for
/// sums of `K` products.
pub(super) struct Operands<const K: usize> {
    pub(super) a: [[f32; K]; 16],
    pub(super) b: [[f32; 8]; K],
}

impl<const K: usize> Operands<K> {
    #[inline(always)]
    pub(super) fn unpack(mma: &Mma, a: &[impl Row], b: &[impl Row]) -> Self {
        let mut operands = Self {
            a: [[0.0; K]; 16],
            b: [[0.0; 8]; K],
        };
        let (a_count, b_count, _) = mma.registers();
        let (a, b) = (&a[..a_count], &b[..b_count]);
        match mma.a {
            ScalarType::F16 => operands.unpack_a(a, halves),
            ScalarType::BF16 => operands.unpack_a(a, brain_floats),
            ScalarType::E4M3 => operands.unpack_a(a, e4m3),
            ScalarType::E5M2 => operands.unpack_a(a, e5m2),
            ScalarType::S8 => operands.unpack_a(a, signed),
            ScalarType::U8 => operands.unpack_a(a, unsigned),
            _ => operands.unpack_a(a, truncated),
        }
        match mma.b {
            ScalarType::F16 => operands.unpack_b(b, halves),
            ScalarType::BF16 => operands.unpack_b(b, brain_floats),
            ScalarType::E4M3 => operands.unpack_b(b, e4m3),
            ScalarType::E5M2 => operands.unpack_b(b, e5m2),
            ScalarType::S8 => operands.unpack_b(b, signed),
            ScalarType::U8 => operands.unpack_b(b, unsigned),
            _ => operands.unpack_b(b, truncated),
        }
        operands
    }

    #[inline(always)]
    fn unpack_a<const E: usize>(
        &mut self,
        registers: &[impl Row],
        decode: impl Fn(u32) -> [f32; E],
    ) {
        for (r, register) in registers.iter().enumerate() {
            let register = register.borrow();
            let mut values = [[0.0; E]; 32];
            for (value, word) in values.iter_mut().zip(register) {
                *value = decode(*word);
            }
            let (groups, _) = values.as_chunks::<4>();
            for (row, group) in self.a[8 * (r % 2)..][..8].iter_mut().zip(groups) {
                row[4 * E * (r / 2)..][..4 * E].copy_from_slice(group.as_flattened());
            }
        }
    }

    #[inline(always)]
    fn unpack_b<const E: usize>(
        &mut self,
        registers: &[impl Row],
        decode: impl Fn(u32) -> [f32; E],
    ) {
        for (r, register) in registers.iter().enumerate() {
            let register = register.borrow();
            let mut words = [[0; 8]; 4];
            for g in 0..8 {
                for t in 0..4 {
                    words[t][g] = register[4 * g + t];
                }
            }
            for (rows, words) in self.b[4 * E * r..4 * E * (r + 1)]
                .chunks_exact_mut(E)
                .zip(&words)
            {
                for (g, word) in words.iter().enumerate() {
                    let values = decode(*word);
                    for (i, value) in values.into_iter().enumerate() {
                        rows[i][g] = value;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn halves(word: u32) -> [f32; 2] {
    [f16_to_f32(word as u16), f16_to_f32((word >> 16) as u16)]
}

#[inline(always)]
fn brain_floats(word: u32) -> [f32; 2] {
    [
        f32::from_bits(word << 16),
        f32::from_bits(word & 0xffff_0000),
    ]
}

#[inline(always)]
fn e4m3(word: u32) -> [f32; 4] {
    let [a, b, c, d] = word.to_le_bytes();
    [
        fp8::e4m3_to_f32(a),
        fp8::e4m3_to_f32(b),
        fp8::e4m3_to_f32(c),
        fp8::e4m3_to_f32(d),
    ]
}

#[inline(always)]
fn e5m2(word: u32) -> [f32; 4] {
    let [a, b, c, d] = word.to_le_bytes();
    [
        fp8::e5m2_to_f32(a),
        fp8::e5m2_to_f32(b),
        fp8::e5m2_to_f32(c),
        fp8::e5m2_to_f32(d),
    ]
}

#[inline(always)]
fn signed(word: u32) -> [f32; 4] {
    let [a, b, c, d] = word.to_le_bytes();
    [
        a as i8 as f32,
        b as i8 as f32,
        c as i8 as f32,
        d as i8 as f32,
    ]
}

#[inline(always)]
fn unsigned(word: u32) -> [f32; 4] {
    let [a, b, c, d] = word.to_le_bytes();
    [a as f32, b as f32, c as f32, d as f32]
}

/// `.tf32` ignores the low 13 bits of a single.
#[inline(always)]
fn truncated(word: u32) -> [f32; 1] {
    [f32::from_bits(word & !0x1fff)]
}

/// C or D.
pub(super) struct Accumulators(pub(super) [[f32; 8]; 16]);

impl Accumulators {
    pub(super) const ZERO: Self = Self([[0.0; 8]; 16]);

    #[inline(always)]
    pub(super) fn unpack(ty: ScalarType, registers: &[impl Row]) -> Self {
        let mut matrix = [[0.0; 8]; 16];
        for half in 0..2 {
            for g in 0..8 {
                let row = &mut matrix[8 * half + g];
                for t in 0..4 {
                    let lane = 4 * g + t;
                    let pair = match ty {
                        ScalarType::F16 => halves(registers[half].borrow()[lane]),
                        _ => [
                            f32::from_bits(registers[2 * half].borrow()[lane]),
                            f32::from_bits(registers[2 * half + 1].borrow()[lane]),
                        ],
                    };
                    row[2 * t..2 * t + 2].copy_from_slice(&pair);
                }
            }
        }
        Self(matrix)
    }

    /// Rounds to the type, canonical NaN included.
    #[inline(always)]
    pub(super) fn pack(&self, ty: ScalarType, registers: &mut [[u32; 32]]) {
        for half in 0..2 {
            for g in 0..8 {
                let row = &self.0[8 * half + g];
                for t in 0..4 {
                    let lane = 4 * g + t;
                    match ty {
                        ScalarType::F16 => {
                            let low = f32_to_f16(row[2 * t], Rounding::Nearest);
                            let high = f32_to_f16(row[2 * t + 1], Rounding::Nearest);
                            registers[half][lane] = u32::from(high) << 16 | u32::from(low);
                        }
                        _ => {
                            registers[2 * half][lane] = float32::canonical(row[2 * t]).to_bits();
                            registers[2 * half + 1][lane] =
                                float32::canonical(row[2 * t + 1]).to_bits();
                        }
                    }
                }
            }
        }
    }

    /// `d = c` and these integers, clamped to 32 bits or wrapped.
    #[inline(always)]
    pub(super) fn add_integers(&self, c: &[impl Row], clamp: bool, d: &mut [[u32; 32]]) {
        for half in 0..2 {
            for g in 0..8 {
                let row = &self.0[8 * half + g];
                for t in 0..4 {
                    for i in 0..2 {
                        let (register, lane) = (2 * half + i, 4 * g + t);
                        let (sum, c) = (row[2 * t + i] as i32, c[register].borrow()[lane] as i32);
                        let total = if clamp {
                            c.saturating_add(sum)
                        } else {
                            c.wrapping_add(sum)
                        };
                        d[register][lane] = total as u32;
                    }
                }
            }
        }
    }
}
