//! References of counter-based random numbers and of sampling with them.

use crate::case::{Case, Scalar, Size};
use crate::data::{Dtype, Init, bytes_of};
use crate::expect::Expect;

/// Philox 4x32 with 10 rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let products = [
            0xD251_1F53u64 * u64::from(counter[0]),
            0xCD9E_8D57u64 * u64::from(counter[2]),
        ];
        let [(high0, low0), (high1, low1)] =
            products.map(|product| ((product >> 32) as u32, product as u32));
        counter = [
            high1 ^ counter[1] ^ key[0],
            low1,
            high0 ^ counter[3] ^ key[1],
            low0,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    counter
}

/// Lower and upper half.
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

pub fn philox_fill(size: Size) -> Case {
    let (n, blocks) = size.pick((150_003usize, 16), (4_003, 2));
    let (seed, stream) = (0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210);
    let mut case = Case::new("philox_fill", [blocks, 1], [256, 1]);
    let words = (0..n.div_ceil(4)).flat_map(|block| {
        let [low, high] = halves(stream);
        philox([block as u32, 0, low, high], halves(seed))
    });
    let words = Expect::Exact(bytes_of(words.take(n).map(u32::to_le_bytes)));
    case.output(Dtype::U32, n, words);
    for scalar in [seed, stream, n as u64] {
        case.scalar(Scalar::U64(scalar));
    }
    case
}

pub fn gumbel_argmax(size: Size) -> Case {
    let (rows, cols) = size.pick((24, 4_003), (3, 1_003));
    let (inverse_temperature, step, seed) = (1.25f32, 7, 0x5EED_0000_1234);
    let mut case = Case::new("gumbel_argmax", [rows, 1], [256, 1]);
    let logits = case.input(Dtype::F32, rows * cols, Init::Random).numbers();
    let sample = |(row, logits): (usize, &[f64])| {
        let key = |col: usize| {
            let word = philox([(col / 4) as u32, row as u32, step, 0], halves(seed))[col % 4];
            let uniform = (f64::from(word >> 9) + 0.5) / f64::from(1 << 23);
            logits[col] * f64::from(inverse_temperature) - (-uniform.ln()).ln()
        };
        let mut keys: Vec<(f64, usize)> = (0..cols).map(|col| (key(col), col)).collect();
        keys.sort_by(|a, b| b.0.total_cmp(&a.0));
        assert!(
            keys[0].0 - keys[1].0 > 1e-4,
            "row {row}: f32 may not tell the two best apart, use another seed"
        );
        (keys[0].1 as u32).to_le_bytes()
    };
    let tokens = Expect::Exact(bytes_of(logits.chunks(cols).enumerate().map(sample)));
    case.output(Dtype::I32, rows, tokens);
    case.sizes([cols]);
    case.scalar(Scalar::F32(inverse_temperature));
    case.scalar(Scalar::U32(step));
    case.scalar(Scalar::U64(seed));
    case
}

/// Known answers published with Random123.
#[test]
fn philox_gives_the_known_answers() {
    assert_eq!(
        philox([0; 4], [0; 2]),
        [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]
    );
    assert_eq!(
        philox([!0; 4], [!0; 2]),
        [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]
    );
}
