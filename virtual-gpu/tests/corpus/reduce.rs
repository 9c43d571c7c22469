//! References of sums, norms and softmax.

use crate::case::{Case, Scalar, Size};
use crate::data::{Dtype, Init};
use crate::expect::Expect;

/// Unit roundoff of f32.
pub const F32_UNIT: f64 = 1.0 / (1 << 24) as f64;
/// Largest relative error of rounding to bf16, with room for the f32 arithmetic before it.
pub const BF16_ROUNDING: f64 = 1.01 / 256.0;

pub fn sum_reduce(size: Size) -> Case {
    let (n, blocks) = size.pick((400_003, 24), (5_003, 4));
    let mut case = Case::new("sum_reduce", [blocks, 1], [256, 1]);
    let x = case.input(Dtype::F32, n, Init::Random).numbers();
    let partial = (0..blocks).map(|block| {
        let own = || (0..n).filter(|i| i / 256 % blocks == block).map(|i| x[i]);
        let roundings = (n / (256 * blocks) + 12) as f64;
        (
            own().sum(),
            roundings * F32_UNIT * own().map(f64::abs).sum::<f64>(),
        )
    });
    case.output(Dtype::F32, blocks, Expect::Near(partial.collect()));
    case.sizes([n]);
    case
}

pub fn last_block_reduce(size: Size) -> Case {
    let (n, blocks) = size.pick((300_001, 40), (9_001, 5));
    let mut case = Case::new("last_block_reduce", [blocks, 1], [256, 1]);
    let x = case.input(Dtype::F32, n, Init::Random).numbers();
    case.update(Dtype::F32, blocks, Init::Uninit, Expect::Any);
    case.update(Dtype::U32, 1, Init::Zeros, Expect::Exact(vec![0; 4]));
    let roundings = (n / (256 * blocks) + 40) as f64;
    let tolerance = roundings * F32_UNIT * x.iter().map(|x| x.abs()).sum::<f64>();
    case.output(
        Dtype::F32,
        1,
        Expect::Near(vec![(x.iter().sum(), tolerance)]),
    );
    case.sizes([n]);
    case
}

pub fn softmax_online(size: Size) -> Case {
    let (rows, cols) = size.pick((101, 1000), (7, 133));
    let mut case = Case::new("softmax_online", [usize::div_ceil(rows, 4), 1], [128, 1]);
    let x = case.input(Dtype::F32, rows * cols, Init::Random).numbers();
    let y = x.chunks(cols).flat_map(|row| {
        let total: f64 = row.iter().map(|x| x.exp()).sum();
        // ex2.approx and the scaling of its argument: 2^-22 each, some dozen times as the maximum rises in a lane and
        // the lanes merge.
        row.iter()
            .map(move |x| (x.exp() / total, x.exp() / total * 4e-6))
    });
    case.output(Dtype::F32, rows * cols, Expect::Near(y.collect()));
    case.sizes([rows, cols]);
    case
}

pub fn rms_norm(size: Size) -> Case {
    let (rows, dim) = size.pick((48, 2056), (5, 264));
    let epsilon = 1e-5f32;
    let mut case = Case::new("rms_norm", [rows, 1], [128, 1]);
    let x = case.input(Dtype::Bf16, rows * dim, Init::Random).numbers();
    let weight = case.input(Dtype::Bf16, dim, Init::Random).numbers();
    let y = x.chunks(dim).flat_map(|row| {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / dim as f64;
        let scale = 1.0 / (mean + f64::from(epsilon)).sqrt();
        let y = row.iter().zip(&weight).map(move |(x, w)| x * scale * w);
        y.map(|y| (y, y.abs() * BF16_ROUNDING))
    });
    case.output(Dtype::Bf16, rows * dim, Expect::Near(y.collect()));
    case.sizes([dim]);
    case.scalar(Scalar::F32(epsilon));
    case
}

pub fn layer_norm(size: Size) -> Case {
    let (rows, cols) = size.pick((60, 1003), (4, 157));
    let epsilon = 1e-5f32;
    let mut case = Case::new("layer_norm", [rows, 1], [128, 1]);
    let x = case.input(Dtype::F32, rows * cols, Init::Random).numbers();
    let weight = case.input(Dtype::F32, cols, Init::Random).numbers();
    let bias = case.input(Dtype::F32, cols, Init::Random).numbers();
    let y = x.chunks(cols).flat_map(|row| {
        let mean = row.iter().sum::<f64>() / cols as f64;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / cols as f64;
        let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
        let y = row.iter().zip(&weight).zip(&bias).map(move |((x, w), b)| {
            let centred = (x - mean) * scale;
            (
                centred * w + b,
                4e-6 * ((1.0 + centred.abs()) * w.abs() + b.abs()),
            )
        });
        y.collect::<Vec<_>>()
    });
    case.output(Dtype::F32, rows * cols, Expect::Near(y.collect()));
    case.sizes([cols]);
    case.scalar(Scalar::F32(epsilon));
    case
}
