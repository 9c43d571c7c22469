//! References of kernels that move and recode data.

use crate::case::{Case, Size};
use crate::data::{Dtype, Init, bytes_of};
use crate::expect::Expect;
use crate::reduce::F32_UNIT;

pub fn transpose(size: Size) -> Case {
    let (rows, cols) = size.pick((300, 517), (45, 70));
    let mut case = Case::new(
        "transpose",
        [usize::div_ceil(cols, 32), usize::div_ceil(rows, 32)],
        [32, 8],
    );
    let x = case.input(Dtype::F32, rows * cols, Init::Random).f32s();
    let y = (0..rows * cols).map(|i| x[i % rows * cols + i / rows].to_le_bytes());
    case.output(Dtype::F32, rows * cols, Expect::Exact(bytes_of(y)));
    case.sizes([rows, cols]);
    case
}

pub fn conv1d(size: Size) -> Case {
    let (channels, length, taps) = size.pick((12, 3_001, 31), (3, 400, 7));
    let mut case = Case::new("conv1d", [usize::div_ceil(length, 256), channels], [256, 1]);
    let x = case
        .input(Dtype::F32, channels * length, Init::Random)
        .numbers();
    let w = case
        .input(Dtype::F32, channels * taps, Init::Random)
        .numbers();
    let y = (0..channels * length).map(|at| {
        let (channel, i) = (at / length, at % length);
        let taps_inside = (0..taps).filter(|k| (taps / 2..length + taps / 2).contains(&(i + k)));
        let (sum, size) = taps_inside.fold((0.0f64, 0.0f64), |(sum, size), k| {
            let term = w[channel * taps + k] * x[channel * length + i + k - taps / 2];
            (sum + term, size + term.abs())
        });
        (sum, size * taps as f64 * F32_UNIT)
    });
    case.output(Dtype::F32, channels * length, Expect::Near(y.collect()));
    case.sizes([length, taps]);
    case
}

pub fn gather(size: Size) -> Case {
    let (vocabulary, tokens, dim) = size.pick((400, 333, 1032), (50, 19, 264));
    let mut case = Case::new("gather", [usize::div_ceil(tokens, 8), 1], [256, 1]);
    let table = case
        .input(Dtype::Bf16, vocabulary * dim, Init::Random)
        .u16s();
    let ids = case
        .input(Dtype::I32, tokens, Init::Range(-1, vocabulary as i64))
        .numbers();
    let rows = ids.iter().flat_map(|&id| match id {
        0.0.. => table[id as usize * dim..][..dim].to_vec(),
        _ => vec![0; dim],
    });
    case.output(
        Dtype::Bf16,
        tokens * dim,
        Expect::Exact(bytes_of(rows.map(u16::to_le_bytes))),
    );
    case.sizes([tokens, dim]);
    case
}

pub fn quantize_rows(size: Size) -> Case {
    let (rows, cols) = size.pick((80, 2_052), (5, 300));
    let mut case = Case::new("quantize_rows", [rows, 1], [128, 1]);
    let x = case.input(Dtype::F32, rows * cols, Init::Random).f32s();
    let (mut q, mut scales) = (Vec::new(), Vec::new());
    for row in x.chunks(cols) {
        let top = row.iter().fold(0.0f32, |top, x| top.max(x.abs()));
        let inverse = 127.0 / top;
        q.extend(
            row.iter()
                .map(|x| (x * inverse).round_ties_even() as i8 as u8),
        );
        scales.push((top / 127.0).to_le_bytes());
    }
    case.output(Dtype::U8, rows * cols, Expect::Exact(q));
    case.output(Dtype::F32, rows, Expect::Exact(bytes_of(scales)));
    case.sizes([cols]);
    case
}

pub fn sparse_delta(size: Size) -> Case {
    let (rows, words) = size.pick((120, 130), (4, 37));
    let elements = rows * words * 32;
    let mut case = Case::new("sparse_delta", [rows, 1], [256, 1]);
    let base = case
        .input(Dtype::U16, elements, Init::Range(0, 1 << 16))
        .u16s();
    let mask = case
        .input(Dtype::U32, rows * words, Init::Range(0, 1 << 32))
        .u32s();
    let packed = case
        .input(Dtype::U16, elements, Init::Range(0, 1 << 16))
        .u16s();
    let mut out = base;
    for (row, out) in out.chunks_mut(words * 32).enumerate() {
        let mut changes = packed[row * words * 32..].iter();
        for (i, element) in out.iter_mut().enumerate() {
            if mask[row * words + i / 32] >> (i % 32) & 1 == 1 {
                *element ^= changes.next().expect("a change for every element at most");
            }
        }
    }
    case.output(
        Dtype::U16,
        elements,
        Expect::Exact(bytes_of(out.into_iter().map(u16::to_le_bytes))),
    );
    case.sizes([words]);
    case
}

pub fn checked_copy(size: Size) -> Case {
    let (n, blocks) = size.pick((100_001, 7), (3_001, 2));
    let mut case = Case::new("checked_copy", [blocks, 1], [256, 1]);
    let x = case.input(Dtype::U32, n, Init::Range(0, 1 << 32));
    case.output(Dtype::U32, n, Expect::Exact(x.bytes.clone()));
    let words = x.u32s();
    let odd = words
        .chunks(n.div_ceil(blocks))
        .map(|block| block.iter().filter(|word| *word % 2 == 1).count());
    let odd = Expect::Exact(bytes_of(odd.map(|count| (count as u32).to_le_bytes())));
    case.output(Dtype::U32, blocks, odd);
    case.sizes([n]);
    case
}
