//! References of tree attention and rotary embedding.

use crate::case::{Case, Scalar, Size};
use crate::data::{Dtype, Init};
use crate::expect::Expect;
use crate::reduce::BF16_ROUNDING;

const DIM: usize = 64;

pub fn tree_attention(size: Size) -> Case {
    let (nodes, heads, kv_heads, context) = size.pick((13, 8, 2, 523), (6, 2, 1, 70));
    let keys = context + nodes;
    let scale_log2 = std::f32::consts::LOG2_E / 8.0;
    let mut case = Case::new("tree_attention", [heads, 1], [128, 1]);
    let q = case
        .input(Dtype::Bf16, nodes * heads * DIM, Init::Random)
        .numbers();
    let k = case
        .input(Dtype::Bf16, kv_heads * keys * DIM, Init::Random)
        .numbers();
    let v = case
        .input(Dtype::Bf16, kv_heads * keys * DIM, Init::Random)
        .numbers();
    let ancestors = case
        .input(Dtype::U32, nodes, Init::Range(0, 1 << 16))
        .u32s();

    let mut out = Vec::with_capacity(nodes * heads * DIM);
    for node in 0..nodes {
        let visible = |key: usize| {
            key < context || key - context == node || ancestors[node] >> (key - context) & 1 == 1
        };
        for head in 0..heads {
            let query = &q[(node * heads + head) * DIM..][..DIM];
            let row = |values: &[f64], key: usize| {
                let first = (head / (heads / kv_heads) * keys + key) * DIM;
                values[first..first + DIM].to_vec()
            };
            let weights: Vec<f64> = (0..keys)
                .map(|key| {
                    let dot: f64 = query.iter().zip(row(&k, key)).map(|(q, k)| q * k).sum();
                    if visible(key) {
                        (dot * f64::from(scale_log2)).exp2()
                    } else {
                        0.0
                    }
                })
                .collect();
            let total: f64 = weights.iter().sum();
            let mut sums = [(0.0, 0.0); DIM];
            for (key, weight) in weights.iter().enumerate() {
                for (sum, v) in sums.iter_mut().zip(row(&v, key)) {
                    sum.0 += weight * v / total;
                    sum.1 += weight * v.abs() / total;
                }
            }
            // Probabilities are rounded to bf16 before they meet V, the result once more.
            out.extend(sums.map(|(sum, size)| (sum, (sum.abs() + size) * BF16_ROUNDING)));
        }
    }
    case.output(Dtype::Bf16, nodes * heads * DIM, Expect::Near(out));
    case.sizes([nodes, heads, kv_heads, context]);
    case.scalar(Scalar::F32(scale_log2));
    case
}

pub fn rope(size: Size) -> Case {
    let (tokens, heads, dim) = size.pick((60, 12, 128), (5, 3, 64));
    let log2_theta = 13.287_712f32; // of 10000
    let half = dim / 2;
    let mut case = Case::new("rope", [tokens, heads], [half, 1]);
    let x = case
        .next(Dtype::Bf16, tokens * heads * dim, Init::Random)
        .numbers();
    let mut y = vec![(0.0, 0.0); x.len()];
    let positions = Init::Range(0, 256);
    let indices = crate::data::Values::generate(1, Dtype::I32, tokens, positions).numbers();
    for (head, (x, y)) in x.chunks(dim).zip(y.chunks_mut(dim)).enumerate() {
        for i in 0..half {
            let frequency = (-f64::from(log2_theta) * i as f64 / half as f64).exp2();
            let (sine, cosine) = (indices[head / heads] * frequency).sin_cos();
            // The angle is off by a few 1e-5 at position 256: f32 holds the turns, sin.approx ends at 2^-20.
            let turned = |number: f64| (number, number.abs() * BF16_ROUNDING + 1e-4);
            y[i] = turned(x[i] * cosine - x[half + i] * sine);
            y[half + i] = turned(x[half + i] * cosine + x[i] * sine);
        }
    }
    case.update(
        Dtype::Bf16,
        tokens * heads * dim,
        Init::Random,
        Expect::Near(y),
    );
    case.input(Dtype::I32, tokens, positions);
    case.scalar(Scalar::F32(log2_theta));
    case
}
