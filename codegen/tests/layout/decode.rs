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

/// `prmt` of a word and bytes 0x64.
fn below_0x64(u: u32, low: u32, high: u32) -> u32 {
    (u >> (8 * low) & 0xff) | (u >> (8 * high) & 0xff) << 16 | 0x6400_6400
}

pub type Fragment = [[f32; 2]; 4];

fn int4(w: u32, offset: bool) -> [Fragment; 2] {
    let zero = if offset { 0.0 } else { 8.0 };
    let bf16 = std::array::from_fn(|i| {
        minus(
            pair_bf16((w >> (4 * i)) & 0x000f_000f | 0x4300_4300),
            [128.0 + zero; 2],
        )
    });
    let f16 = std::array::from_fn(|i| match i % 2 {
        0 => minus(
            pair_f16((w >> (4 * i)) & 0x000f_000f | 0x6400_6400),
            [1024.0 + zero; 2],
        ),
        _ => {
            let x = pair_f16((w >> (4 * (i - 1))) & 0x00f0_00f0 | 0x6400_6400);
            x.map(|x| x.mul_add(1.0 / 16.0, -64.0 - zero))
        }
    });
    [bf16, f16]
}

fn int8(words: [u32; 2]) -> [Fragment; 2] {
    let v = |w: u32| {
        let (low, base) = (w & 0x007f_007f | 0x4300_4300, w & 0x0080_0080 | 0x4300_4300);
        minus(pair_bf16(low), pair_bf16(base))
    };
    let [w0, w1] = words;
    let [u0, u1] = words.map(|w| w ^ 0x8080_8080);
    let h = |u, low, high| minus(pair_f16(below_0x64(u, low, high)), [1152.0; 2]);
    [
        [v(w0), v(w0 >> 8), v(w1), v(w1 >> 8)],
        [h(u0, 0, 2), h(u0, 1, 3), h(u1, 0, 2), h(u1, 1, 3)],
    ]
}

fn fp8(words: [u32; 2]) -> [Fragment; 1] {
    let half = |x: u32| {
        [x & 0xff, x >> 8 & 0xff].map(|byte| {
            let bits = (byte & 0x80) << 8 | (byte & 0x7f) << 7;
            f16::from_bits(bits as u16).to_f32() * 256.0
        })
    };
    let [w0, w1] = words;
    [[half(w0), half(w0 >> 16), half(w1), half(w1 >> 16)]]
}

/// The registers a0..a3 of each k16 step of an atom, decoded in every documented way.
pub fn decode(format: WeightFormat, words: [u32; 4]) -> Vec<Vec<Fragment>> {
    let steps = |pairs: fn([u32; 2]) -> Vec<Fragment>| {
        vec![pairs([words[0], words[1]]), pairs([words[2], words[3]])]
    };
    match format {
        WeightFormat::Bf16 => vec![vec![words.map(pair_bf16)]],
        WeightFormat::F16 => vec![vec![words.map(pair_f16)]],
        WeightFormat::Fp8E4M3 { .. } => steps(|words| fp8(words).to_vec()),
        WeightFormat::Int8 { .. } => steps(|words| int8(words).to_vec()),
        WeightFormat::Int4 { offset, .. } => words.map(|w| int4(w, offset).to_vec()).to_vec(),
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
                for (i, ways) in decoded.iter().enumerate() {
                    let step = atom * decoded.len() + i;
                    let (g, t) = (lane / 4, lane % 4);
                    let j = step / 2 * 32 + 8 * t + 4 * (step % 2);
                    let expected = [(g, j), (g + 8, j), (g, j + 2), (g + 8, j + 2)]
                        .map(|(row, j)| [value(row, j), value(row, j + 1)]);
                    for way in ways {
                        assert_eq!(
                            *way, expected,
                            "{format}, atom {atom}, lane {lane}, step {i}"
                        );
                    }
                }
            }
        }
    }
}
