//! The decode arithmetic that the layout documents, lane by lane as a kernel does it, against what a format means.

use half::{bf16, f16};
use stheno_codegen::layout::tile::{Rows, pack};
use stheno_codegen::layout::{Group, WeightFormat};

/// Two bf16 of a register, low half first.
fn pair_bf16(x: u32) -> [f32; 2] {
    [x as u16, (x >> 16) as u16].map(|bits| bf16::from_bits(bits).to_f32())
}

fn pair_f16(x: u32) -> [f32; 2] {
    [x as u16, (x >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32())
}

/// Subtracts in the type of the register; the result must be exact there, so it may be rounded to it.
fn minus(x: [f32; 2], y: [f32; 2]) -> [f32; 2] {
    let difference = [x[0] - y[0], x[1] - y[1]];
    assert_eq!(difference.map(|d| bf16::from_f32(d).to_f32()), difference);
    difference
}

/// Registers a0..a3 of a k16 step.
pub type Fragment = [[f32; 2]; 4];

fn int4(w: u32, offset: bool) -> Fragment {
    let zero = if offset { 0.0 } else { 8.0 };
    std::array::from_fn(|i| {
        minus(
            pair_bf16((w >> (4 * i)) & 0x000f_000f | 0x4300_4300),
            [128.0 + zero; 2],
        )
    })
}

fn int8([w0, w1]: [u32; 2]) -> Fragment {
    let v = |w: u32| {
        let (low, base) = (w & 0x007f_007f | 0x4300_4300, w & 0x0080_0080 | 0x4300_4300);
        minus(pair_bf16(low), pair_bf16(base))
    };
    [v(w0), v(w0 >> 8), v(w1), v(w1 >> 8)]
}

fn fp8([w0, w1]: [u32; 2]) -> Fragment {
    let half = |x: u32| {
        [x & 0xff, x >> 8 & 0xff].map(|byte| {
            let bits = (byte & 0x80) << 8 | (byte & 0x7f) << 4;
            bf16::from_bits(bits as u16).to_f32() * 2f32.powi(120)
        })
    };
    [half(w0), half(w0 >> 16), half(w1), half(w1 >> 16)]
}

/// What bf16 holds of f16 numbers, and the rest.
fn halves(w: [f32; 2]) -> [[f32; 2]; 2] {
    let hi = w.map(|w| bf16::from_f32(w).to_f32());
    [hi, minus(w, hi)]
}

/// The registers of each k16 step of an atom as documented: fragments whose sum is the elements.
pub fn decode(format: WeightFormat, words: [u32; 4]) -> Vec<Vec<Fragment>> {
    let steps = |pairs: fn([u32; 2]) -> Fragment| {
        let [a, b, c, d] = words;
        vec![vec![pairs([a, b])], vec![pairs([c, d])]]
    };
    match format {
        WeightFormat::Bf16 => vec![vec![words.map(pair_bf16)]],
        WeightFormat::F16 => {
            let both = words.map(|w| halves(pair_f16(w)));
            vec![vec![both.map(|[hi, _]| hi), both.map(|[_, lo]| lo)]]
        }
        WeightFormat::Fp8E4M3 { .. } => steps(fp8),
        WeightFormat::Int8 { .. } => steps(int8),
        WeightFormat::Int4 { offset, .. } => words.map(|w| vec![int4(w, offset)]).to_vec(),
    }
}

#[test]
fn registers_hold_what_the_instruction_wants() {
    let group = Group::G32;
    let formats = [
        WeightFormat::Bf16,
        WeightFormat::F16,
        WeightFormat::Fp8E4M3 { group },
        WeightFormat::Int8 {
            group,
            offset: false,
        },
        WeightFormat::Int4 {
            group,
            offset: false,
        },
        WeightFormat::Int4 {
            group,
            offset: true,
        },
    ];
    let k = 512;
    for format in formats {
        let size = format.bits().div_ceil(8);
        let mask = if format.bits() == 4 { 15 } else { 255 };
        // Every code occurs, but for those of floats that are no numbers.
        let float = matches!(format.bits(), 16) || matches!(format, WeightFormat::Fp8E4M3 { .. });
        let byte = |r: usize, i: usize| match (r * 37 + i * 11) as u8 {
            b if float && b & 0x7f >= 0x7c => 0x3c,
            b => b & mask,
        };
        let rows: Vec<Vec<u8>> = (0..16)
            .map(|r| (0..k * size).map(|i| byte(r, i)).collect())
            .collect();
        let slices: Rows<'_> = std::array::from_fn(|r| rows[r].as_slice());
        let mut block = vec![0; format.block_bytes(k)];
        pack(format, &slices, k, &mut block);
        let value = |row: usize, column: usize| {
            let bytes = &rows[row][column * size..];
            format.value(match size {
                2 => u16::from_le_bytes([bytes[0], bytes[1]]),
                _ => bytes[0].into(),
            })
        };
        for atom in 0..k / format.atom_k() {
            for lane in 0..32 {
                let bytes = &block[512 * atom + 16 * lane..];
                let word =
                    |i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap());
                let decoded = decode(format, std::array::from_fn(word));
                assert_eq!(decoded.len(), format.atom_k() / 16);
                for (i, terms) in decoded.iter().enumerate() {
                    let step = atom * decoded.len() + i;
                    let (g, t) = (lane / 4, lane % 4);
                    let j = step / 2 * 32 + 8 * t + 4 * (step % 2);
                    let expected = [(g, j), (g + 8, j), (g, j + 2), (g + 8, j + 2)]
                        .map(|(row, j)| [value(row, j), value(row, j + 1)]);
                    let sum: Fragment = std::array::from_fn(|a| {
                        std::array::from_fn(|half| terms.iter().map(|term| term[a][half]).sum())
                    });
                    assert_eq!(
                        sum, expected,
                        "{format}, atom {atom}, lane {lane}, step {i}"
                    );
                }
            }
        }
    }
}
