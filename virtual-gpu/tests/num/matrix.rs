//! Matrices of raw elements and their fragments, element by element as the PTX ISA writes the layouts down.

use crate::reference::{self, Dyadic, Model};
use virtual_gpu::num::{Mma, MmaShape, ScalarType};

pub const E4M3: Model = Model {
    exponent_bits: 4,
    fraction_bits: 3,
};
pub const E5M2: Model = Model {
    exponent_bits: 5,
    fraction_bits: 2,
};

/// Elements by row and column, in the low bits of words.
pub type Matrix = Vec<Vec<u64>>;

pub fn form(m: u32, k: u32, a: ScalarType, b: ScalarType, c: ScalarType) -> Mma {
    let mma = Mma {
        shape: MmaShape { m, n: 8, k },
        a,
        b,
        c,
        d: c,
        satfinite: false,
    };
    assert_eq!(mma.check(), Ok(()));
    mma
}

/// Row and column of element `i` that a lane holds of A (PTX ISA, "Matrix Fragments for mma.m16n8k4" and the
/// following).
fn place_a(mma: &Mma, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    match (mma.a.bytes(), mma.shape.m, mma.shape.k) {
        (8, 8, 4) => (group, thread),
        (8, 16, _) => (
            group + 8 * (i % 2),
            if i.is_multiple_of(2) {
                i * 2
            } else {
                i * 2 - 2
            } + thread,
        ),
        (4, _, 4) => (group + 8 * i, thread),
        (4, _, 8) => (
            if i == 0 || i == 2 { group } else { group + 8 },
            if i < 2 { thread } else { thread + 4 },
        ),
        (2, _, 8) => (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1)),
        (2, _, 16) => {
            let row = if i < 2 || (4..6).contains(&i) {
                group
            } else {
                group + 8
            };
            (row, thread * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
        }
        (1, _, 16) => (if i < 4 { group } else { group + 8 }, thread * 4 + (i & 3)),
        (1, _, 32) => {
            let row = if i < 4 || (8..12).contains(&i) {
                group
            } else {
                group + 8
            };
            (row, thread * 4 + (i & 3) + if i < 8 { 0 } else { 16 })
        }
        other => panic!("no layout for {other:?}"),
    }
}

/// Row and column of element `i` that a lane holds of B.
fn place_b(mma: &Mma, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    let row = match mma.b.bytes() {
        8 | 4 => thread + i * 4,
        2 => thread * 2 + (i & 1) + if i < 2 { 0 } else { 8 },
        _ => thread * 4 + (i & 3) + if i < 4 { 0 } else { 16 },
    };
    (row, group)
}

/// Row and column of element `i` that a lane holds of C or D.
fn place_c(_: &Mma, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1))
}

type Place = fn(&Mma, usize, usize) -> (usize, usize);

fn fragment(mma: &Mma, matrix: &Matrix, ty: ScalarType, place: Place) -> Vec<[u32; 32]> {
    let elements = matrix.len() * matrix[0].len() / 32;
    let bits = 8 * ty.bytes() as usize;
    let mut registers = vec![[0u32; 32]; elements * bits / 32];
    for lane in 0..32 {
        for i in 0..elements {
            let (row, column) = place(mma, lane, i);
            let element = matrix[row][column];
            if bits == 64 {
                // Two rows of words are 32 values of 64 bits in order.
                registers[2 * i + lane / 16][2 * (lane % 16)] = element as u32;
                registers[2 * i + lane / 16][2 * (lane % 16) + 1] = (element >> 32) as u32;
            } else {
                registers[i * bits / 32][lane] |= (element as u32) << (i * bits % 32);
            }
        }
    }
    registers
}

pub fn fragments(mma: &Mma, a: &Matrix, b: &Matrix, c: &Matrix) -> [Vec<[u32; 32]>; 3] {
    let all = [
        fragment(mma, a, mma.a, place_a),
        fragment(mma, b, mma.b, place_b),
        fragment(mma, c, mma.c, place_c),
    ];
    let (x, y, z) = mma.registers();
    assert_eq!([x, y, z], [all[0].len(), all[1].len(), all[2].len()]);
    all
}

/// D as a matrix.
pub fn result(mma: &Mma, registers: &[[u32; 32]]) -> Matrix {
    let bits = 8 * mma.d.bytes() as usize;
    let mut matrix = vec![vec![0; 8]; mma.shape.m as usize];
    for lane in 0..32 {
        for i in 0..mma.shape.m as usize / 4 {
            let (row, column) = place_c(mma, lane, i);
            matrix[row][column] = if bits == 64 {
                let words = &registers[2 * i + lane / 16];
                u64::from(words[2 * (lane % 16)]) | u64::from(words[2 * (lane % 16) + 1]) << 32
            } else {
                (u64::from(registers[i * bits / 32][lane]) >> (i * bits % 32)) % (1 << bits)
            };
        }
    }
    matrix
}

/// What an operand is: not a number, infinite with a sign, or an exact number and its exponent in the adder.
pub enum Operand {
    Nan,
    Infinite(bool),
    Number(Dyadic, i32),
}

pub fn operand(ty: ScalarType, bits: u64) -> Operand {
    let (model, bits) = match ty {
        ScalarType::F16 => (reference::F16, bits),
        ScalarType::BF16 => (reference::BF16, bits),
        ScalarType::E4M3 => (E4M3, bits),
        ScalarType::E5M2 => (E5M2, bits),
        ScalarType::TF32 => (reference::F32, bits >> 13 << 13),
        ScalarType::F32 => (reference::F32, bits),
        other => panic!("{other:?} is no floating-point operand"),
    };
    let sign = 1u64 << (model.exponent_bits + model.fraction_bits);
    let magnitude = bits & (sign - 1);
    let negative = bits & sign != 0;
    let special = match ty {
        // All numbers with the largest exponent but NaN are finite.
        ScalarType::E4M3 if magnitude == 0x7f => Some(Operand::Nan),
        ScalarType::E4M3 => None,
        _ if magnitude > model.infinity() => Some(Operand::Nan),
        _ if magnitude == model.infinity() => Some(Operand::Infinite(negative)),
        _ => None,
    };
    special.unwrap_or_else(|| {
        let bias = (1 << (model.exponent_bits - 1)) - 1;
        let field = (magnitude >> model.fraction_bits) as i32;
        let exponent = if magnitude == 0 {
            -126
        } else {
            field.max(1) - bias
        };
        Operand::Number(model.signed_value(bits), exponent)
    })
}
