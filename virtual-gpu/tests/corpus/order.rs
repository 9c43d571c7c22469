//! References of scans, sorts, counts and selections.

use crate::case::{Case, Scalar, Size};
use crate::data::{Dtype, Init, bytes_of};
use crate::expect::Expect;

/// Integers of all 32 bits.
const ANY_U32: Init = Init::Range(0, 1 << 32);

fn exact_u32(words: impl IntoIterator<Item = u32>) -> Expect {
    Expect::Exact(bytes_of(words.into_iter().map(u32::to_le_bytes)))
}

/// Running sums, wrapping.
fn inclusive_scan(x: &[u32]) -> Vec<u32> {
    let sum = |total: &mut u32, x: &u32| {
        *total = total.wrapping_add(*x);
        Some(*total)
    };
    x.iter().scan(0, sum).collect()
}

pub fn scan_block(size: Size) -> Case {
    let n = size.pick(100_003, 5_001);
    let mut case = Case::new("scan_block", [usize::div_ceil(n, 1024), 1], [256, 1]);
    let x = case.input(Dtype::U32, n, ANY_U32).u32s();
    case.output(
        Dtype::U32,
        n,
        exact_u32(x.chunks(1024).flat_map(inclusive_scan)),
    );
    case.sizes([n]);
    case
}

pub fn scan_lookback(size: Size) -> Case {
    let n = size.pick(40_005, 3_007);
    let tiles = usize::div_ceil(n, 256);
    let mut case = Case::new("scan_lookback", [tiles, 1], [256, 1]);
    let x = case.input(Dtype::U32, n, ANY_U32).u32s();
    let y = inclusive_scan(&x);
    // At the end every tile has published its whole prefix, flag 2.
    let state = y
        .chunks(256)
        .map(|tile| (2u64 << 32) | u64::from(tile[tile.len() - 1]));
    let state = Expect::Exact(bytes_of(state.map(u64::to_le_bytes)));
    case.output(Dtype::U32, n, exact_u32(y));
    case.update(Dtype::U64, tiles, Init::Zeros, state);
    case.update(Dtype::U32, 1, Init::Zeros, exact_u32([tiles as u32]));
    case.sizes([n]);
    case
}

pub fn histogram(size: Size) -> Case {
    let (n, blocks) = size.pick((300_003, 20), (9_001, 3));
    let mut case = Case::new("histogram", [blocks, 1], [256, 1]);
    let x = case.input(Dtype::U8, n, Init::Range(0, 256)).bytes;
    let mut counts = [0u32; 256];
    for byte in x {
        counts[usize::from(byte)] += 1;
    }
    case.update(Dtype::U32, 256, Init::Zeros, exact_u32(counts));
    case.sizes([n]);
    case
}

pub fn bitonic_sort(size: Size) -> Case {
    let n = size.pick(6_500, 1_000);
    let mut case = Case::new("bitonic_sort", [usize::div_ceil(n, 1024), 1], [512, 1]);
    let mut keys = case.next(Dtype::U32, n, ANY_U32).u32s();
    keys.chunks_mut(1024).for_each(<[u32]>::sort_unstable);
    case.update(Dtype::U32, n, ANY_U32, exact_u32(keys));
    case.sizes([n]);
    case
}

pub fn radix_sort(size: Size) -> Case {
    // The small case repeats keys, so that only a stable sort passes.
    let (n, keys) = size.pick((9_001, ANY_U32), (1_500, Init::Range(0, 300)));
    let mut case = Case::new("radix_sort", [usize::div_ceil(n, 2048), 1], [256, 1]);
    let keys = case.input(Dtype::U32, n, keys).u32s();
    let values = case.input(Dtype::U32, n, Init::Iota).u32s();
    let mut pairs: Vec<(u32, u32)> = keys.into_iter().zip(values).collect();
    pairs
        .chunks_mut(2048)
        .for_each(|segment| segment.sort_by_key(|pair| pair.0));
    case.output(Dtype::U32, n, exact_u32(pairs.iter().map(|pair| pair.0)));
    case.output(Dtype::U32, n, exact_u32(pairs.iter().map(|pair| pair.1)));
    case.sizes([n]);
    case
}

/// Indices of a row from the largest value to the smallest, lower index first among equals.
fn descending(row: &[f32]) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..row.len()).collect();
    indices.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
    indices
}

pub fn argmax_atomic(size: Size) -> Case {
    let (rows, cols, blocks) = size.pick((24, 8_003, 5), (3, 1_001, 2));
    let mut case = Case::new("argmax_atomic", [blocks, rows], [256, 1]);
    let x = case.input(Dtype::F32, rows * cols, Init::Random).f32s();
    let best = x.chunks(cols).map(|row| {
        let first = descending(row)[0];
        let bits = row[first].to_bits();
        let ordered = if bits >> 31 == 1 {
            !bits
        } else {
            bits | (1 << 31)
        };
        (u64::from(ordered) << 32) | u64::from(!(first as u32))
    });
    let best = Expect::Exact(bytes_of(best.map(u64::to_le_bytes)));
    case.update(Dtype::U64, rows, Init::Zeros, best);
    case.sizes([cols]);
    case
}

pub fn top_k(size: Size) -> Case {
    let (rows, cols) = size.pick((16, 5_003), (2, 300));
    let mut case = Case::new("top_k", [rows, 1], [256, 1]);
    let x = case.input(Dtype::F32, rows * cols, Init::Random).f32s();
    let top: Vec<(f32, u32)> = (x.chunks(cols))
        .flat_map(|row| {
            descending(row)
                .into_iter()
                .take(8)
                .map(|i| (row[i], i as u32))
        })
        .collect();
    case.output(
        Dtype::F32,
        rows * 8,
        exact_u32(top.iter().map(|top| top.0.to_bits())),
    );
    case.output(Dtype::I32, rows * 8, exact_u32(top.iter().map(|top| top.1)));
    case.sizes([cols]);
    case
}

pub fn top_p(size: Size) -> Case {
    let (rows, cols) = size.pick((16, 3_001), (3, 500));
    let p = 0.45f32;
    let mut case = Case::new("top_p", [rows, 1], [256, 1]);
    let logits = case.input(Dtype::F32, rows * cols, Init::Random).f32s();
    let uniform = case.input(Dtype::F32, rows, Init::Random).f32s();
    let sample = |(row, uniform): (&[f32], &f32)| {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        let bins: Vec<usize> = row
            .iter()
            .map(|x| (((top - x) * 23.083_12) as usize).min(255))
            .collect();
        let weight = |bin: usize| {
            ((1u32 << 20) as f64 * 2f64.powf((bin % 16) as f64 / -16.0)).round() as u32
                >> (bin / 16)
        };
        let total: u32 = bins.iter().map(|&bin| weight(bin)).sum();
        let wanted = ((p * total as f32).ceil() as u32).min(total);
        let reaches = |last: usize| {
            bins.iter()
                .filter(|&&bin| bin <= last)
                .map(|&bin| weight(bin))
                .sum::<u32>()
        };
        let last = (0..256)
            .find(|&last| reaches(last) >= wanted)
            .expect("all bins hold the total");
        let nucleus = reaches(last);
        let target = (((uniform * 0.5 + 0.5) * nucleus as f32) as u32).min(nucleus - 1);
        let mut running = 0;
        let token = bins.iter().position(|&bin| {
            running += if bin <= last { weight(bin) } else { 0 };
            running > target
        });
        (
            token.expect("the target is below the total") as u32,
            [nucleus, total],
        )
    };
    let samples: Vec<(u32, [u32; 2])> = logits.chunks(cols).zip(&uniform).map(sample).collect();
    let masses = samples.iter().flat_map(|sample| sample.1);
    let masses = Expect::Exact(bytes_of(masses.map(|mass| u64::from(mass).to_le_bytes())));
    case.output(
        Dtype::I32,
        rows,
        exact_u32(samples.iter().map(|sample| sample.0)),
    );
    case.output(Dtype::U64, rows * 2, masses);
    case.sizes([cols]);
    case.scalar(Scalar::F32(p));
    case
}

#[test]
fn descending_prefers_the_lower_index() {
    assert_eq!(descending(&[1.0, 3.0, 3.0, -2.0]), [1, 2, 0, 3]);
}
