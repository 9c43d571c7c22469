//! Against the general code.

use super::super::super::{Arch, Mma, MmaMode, MmaShape};
use super::*;
use crate::num::ScalarType;
use proptest::prelude::*;

fn can_run() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bf16")
}

/// What the general code makes of the registers.
fn general(registers: &[Register; 10]) -> [Register; 4] {
    let mma = Mma {
        shape: MmaShape { m: 16, n: 8, k: 16 },
        a: ScalarType::BF16,
        b: ScalarType::BF16,
        c: ScalarType::F32,
        d: ScalarType::F32,
        satfinite: false,
    };
    let [a, b, c] = [&registers[..4], &registers[4..6], &registers[6..]];
    let mut sums = [[0; 32]; 4];
    mma.run(MmaMode::Exact(Arch::Hopper), a, b, c, &mut sums);
    sums
}

fn by_vectors(registers: &[Register; 10]) -> Option<[Register; 4]> {
    let [a0, a1, a2, a3, b0, b1, c0, c1, c2, c3] = registers;
    let mut sums = [[0; 32]; 4];
    // SAFETY: the test asks for the instructions first.
    let fits = unsafe {
        let (a, b, c) = ([a0, a1, a2, a3], [b0, b1], [c0, c1, c2, c3]);
        add_whole_products_of_16(&a, &b, &c, &mut sums)
    };
    fits.then_some(sums)
}

fn bf16(x: f32) -> u32 {
    assert_eq!(x.to_bits() & 0xffff, 0, "{x}");
    x.to_bits() >> 16
}

/// Ingredients of registers: see `registers`.
#[derive(Clone, Debug)]
struct Recipe {
    words: Vec<u32>,
    code_bits: u32,
    unsigned: bool,
    centre: i32,
    spreads: [u32; 8],
    sums: Sums,
    last: Option<(usize, u32)>,
}

#[derive(Clone, Copy, Debug)]
enum Sums {
    Zero,
    NegativeZero,
    /// Of products with the same B in another order, so that some cancel.
    Running,
    /// Any bits, with an exponent so far above the largest of B.
    Any(i32),
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let sums = prop_oneof![
        Just(Sums::Zero),
        Just(Sums::NegativeZero),
        Just(Sums::Running),
        (-30i32..40).prop_map(Sums::Any),
    ];
    let special = prop::sample::select(vec![
        f32::NAN.to_bits(),
        f32::INFINITY.to_bits(),
        f32::NEG_INFINITY.to_bits(),
        0x8000_0000,
        0x0001_0000,
        0x8040_0000,
        0x0000_0001,
        0x7f7f_0000,
        0x3f81_0000,
        0x4381_0000,
        0x0080_0000,
    ]);
    (
        prop::collection::vec(any::<u32>(), 2 * 320),
        1u32..10,
        any::<bool>(),
        prop_oneof![3 => -20i32..17, 1 => -120i32..120],
        prop::array::uniform8(1u32..24),
        sums,
        prop::option::weighted(0.2, (0usize..320, special)),
    )
        .prop_map(
            |(words, code_bits, unsigned, centre, spreads, sums, last)| Recipe {
                words,
                code_bits,
                unsigned,
                centre,
                spreads,
                sums,
                last,
            },
        )
}

/// Codes of some bits for A, numbers within a spread of exponents for each column of B, and accumulators.
fn registers(recipe: &Recipe) -> [Register; 10] {
    let mut registers = [[0; 32]; 10];
    let code = |word: u32| {
        let code = (word % (1 << recipe.code_bits)) as f32;
        let code = code
            - if recipe.unsigned {
                0.0
            } else {
                (1 << recipe.code_bits >> 1) as f32
            };
        // Of nine bits some are no bf16 numbers.
        code.to_bits() >> 16
    };
    let number = |word: u32, column: usize| {
        if word.is_multiple_of(16) {
            return 0;
        }
        let below = (word >> 4) % recipe.spreads[column];
        let exponent = (recipe.centre - below as i32).clamp(-126, 127);
        (word >> 16 & 0x807f) | ((127 + exponent) as u32) << 7
    };
    for (register, lane) in (0..6).flat_map(|r| (0..32).map(move |l| (r, l))) {
        let at = 2 * (32 * register + lane);
        let [x, y] = [recipe.words[at], recipe.words[at + 1]];
        registers[register][lane] = match register {
            0..4 => code(x >> 8) | code(y >> 8) << 16,
            _ => number(x, lane / 4) | number(y, lane / 4) << 16,
        };
    }
    let before = {
        let mut before = registers;
        before[0].rotate_left(4);
        general(&before)
    };
    for (register, lane) in (0..4).flat_map(|r| (0..32).map(move |l| (r, l))) {
        let word = recipe.words[2 * (192 + 32 * register + lane)];
        registers[6 + register][lane] = match recipe.sums {
            Sums::Zero => 0,
            Sums::NegativeZero => u32::from(word.is_multiple_of(3)) << 31,
            Sums::Running => before[register][lane] ^ (word & 1) << 31,
            Sums::Any(above) => {
                let exponent = (recipe.centre + above - (word % 4) as i32).clamp(-126, 127);
                let bits = word & 0x807f_ffff | ((127 + exponent) as u32) << 23;
                if word.is_multiple_of(5) {
                    bits & !0xffff
                } else {
                    bits
                }
            }
        };
    }
    if let Some((at, special)) = recipe.last {
        let (register, lane) = (at / 32, at % 32);
        registers[register][lane] = match register {
            0..6 => special >> 16 | registers[register][lane] & 0xffff_0000,
            _ => special,
        };
    }
    registers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn sums_are_those_of_the_general_code(recipe in recipe()) {
        if !can_run() {
            return Ok(());
        }
        let registers = registers(&recipe);
        if let Some(found) = by_vectors(&registers) {
            prop_assert_eq!(found, general(&registers));
        }
    }
}

/// Registers with `a` everywhere in A, and `b` in turn in each column.
fn uniform(a: f32, b: [f32; 8]) -> [Register; 10] {
    let mut registers = [[0; 32]; 10];
    registers[..4].fill([bf16(a) << 16 | bf16(a); 32]);
    registers[4] = std::array::from_fn(|lane| {
        let at = 2 * (lane % 4);
        bf16(b[at + 1]) << 16 | bf16(b[at])
    });
    registers[5] = registers[4].map(|pair| pair.rotate_left(16));
    registers
}

#[test]
fn spreads_fit_up_to_where_the_adder_truncates() {
    if !can_run() {
        return;
    }
    // For A of one, three and eight bits: the largest spread with one sum, with two, and none.
    for (a, last) in [(1.0, 18), (7.0, 16), (8.0, 15), (-128.0, 9)] {
        for spread in 0..24 {
            let small = 1.9921875 * 2f32.powi(-spread);
            let registers = uniform(a, [1.9921875, small, -small, 1.0, 0.0, small, 1.5, -0.0]);
            let found = by_vectors(&registers);
            assert_eq!(found.is_some(), spread <= last, "{a} {spread}");
            if let Some(found) = found {
                assert_eq!(found, general(&registers), "{a} {spread}");
            }
        }
    }
}

#[test]
fn the_largest_sums_lose_no_bit() {
    if !can_run() {
        return;
    }
    // Fifteen products as large as they can be, and one that has the last bit.
    for (a, significand, spread) in [255.0, -127.0, 31.0, 15.0, 1.0]
        .iter()
        .flat_map(|a| (0..128).step_by(9).map(move |bits| (*a, bits)))
        .flat_map(|(a, bits)| (0..19).map(move |spread| (a, bits, spread)))
    {
        let mut registers = uniform(a, [1.9921875; 8]);
        let small = (1.0 + significand as f32 / 128.0) * 2f32.powi(-spread);
        for words in registers[5].as_chunks_mut::<4>().0 {
            words[2] = words[2] & 0xffff | bf16(small) << 16;
        }
        for c in [
            0.0,
            2f32.powi(-7 - spread),
            -3.0 * 2f32.powi(-7 - spread),
            300.0,
        ] {
            registers[6..].fill([c.to_bits(); 32]);
            if let Some(found) = by_vectors(&registers) {
                assert_eq!(found, general(&registers), "{a} {significand} {spread} {c}");
            }
        }
    }
}

#[test]
fn other_operands_do_not_fit() {
    if !can_run() {
        return;
    }
    let mut registers = uniform(3.0, [1.0, 2.0, 0.5, 0.25, -1.0, 0.0, 1.5, 1.25]);
    registers[6..].fill([2.5f32.to_bits(); 32]);
    assert_eq!(by_vectors(&registers), Some(general(&registers)));
    for (register, word) in [
        (0, bf16(0.5)),
        (1, bf16(1.5) << 16),
        (2, bf16(256.0)),
        (3, bf16(f32::INFINITY)),
        (3, 0x7fc0),
        (0, 0x0001),
        (4, bf16(f32::NEG_INFINITY)),
        (4, 0x7fc0_0000),
        (5, 0x0001),
        (5, bf16(2f32.powi(-30))),
        (5, bf16(2f32.powi(18))),
        (6, f32::NAN.to_bits()),
        (7, f32::INFINITY.to_bits()),
        (8, 0x0000_0001),
        (9, 2f32.powi(-24).to_bits()),
        (9, 2f32.powi(40).to_bits()),
    ] {
        let mut registers = registers;
        registers[register][17] = word;
        assert_eq!(by_vectors(&registers), None, "{register} {word:x}");
    }
}

#[test]
fn zeros_of_either_sign_add_to_zero() {
    if !can_run() {
        return;
    }
    for (a, b, c) in [
        (0.0, 1.0, -0.0),
        (-0.0, 1.0, 0.0),
        (1.0, -0.0, -0.0),
        (0.0, 0.0, 2.5),
    ] {
        let mut registers = uniform(a, [b; 8]);
        registers[6..].fill([f32::to_bits(c); 32]);
        let found = by_vectors(&registers);
        assert_eq!(found, Some(general(&registers)), "{a} {b} {c}");
        assert_eq!(found, Some([[(c + 0.0).to_bits(); 32]; 4]));
    }
}
