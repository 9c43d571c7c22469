//! Every instruction set against the portable definition, bit for bit, on random matrices of every form.

use super::on_isa;
use super::widen::Bf16;
use super::{Isa, LANES, Q8_BLOCK, Q8Block, Q8Group, affine, attend, dense, q8_tile, row};
use crate::checkpoint::{AffineBuilder, AffineForm, AffineMatrix, AffineShape, RowScales};
use half::f16;
use stheno_codegen::plan::Dtype;

/// A small deterministic stream of bits, so that failures repeat.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u32 << 30) as f32 - 1.0
    }

    fn half(&mut self) -> u16 {
        f16::from_f32(self.float()).to_bits()
    }
}

fn matrix(bits: &mut Bits, shape: AffineShape, form: AffineForm) -> AffineMatrix {
    let mut builder = AffineBuilder::new(shape, form).unwrap();
    let groups = shape.k / shape.group;
    for row in 0..shape.n {
        let quanta: Vec<u8> = (0..shape.k)
            .map(|_| (bits.next() % (1 << shape.bits)) as u8)
            .collect();
        builder.set_quanta(row, &quanta);
        for mins in [false, true] {
            let direct: Vec<u16> = (0..groups).map(|_| bits.half()).collect();
            let supers: Vec<u16> = (0..shape.k / 256).map(|_| bits.half()).collect();
            let subs: Vec<i8> = (0..groups).map(|_| bits.next() as i8).collect();
            let scales = match form.two_level {
                true => RowScales::TwoLevel {
                    supers: &supers,
                    subs: &subs,
                },
                false => RowScales::Direct(&direct),
            };
            match mins {
                false => builder.set_scales(row, scales),
                true if form.zero.is_none() => builder.set_mins(row, scales),
                true => {}
            }
        }
    }
    builder.finish()
}

fn forms() -> impl Iterator<Item = (AffineShape, AffineForm)> {
    let shape = |bits, group| AffineShape {
        n: 40,
        k: 512,
        bits,
        group,
    };
    let zeros = [(4, 8), (5, 16), (6, 32), (8, 128)];
    let kinds = zeros
        .into_iter()
        .flat_map(|(bits, zero)| [(bits, Some(zero)), (bits, None)]);
    kinds.flat_map(move |(bits, zero)| {
        let groups = [(16, false), (16, true), (32, false), (32, true)];
        groups.map(|(group, two_level)| (shape(bits, group), AffineForm { two_level, zero }))
    })
}

#[test]
fn q8_tiles_agree_on_every_instruction_set() {
    let mut bits = Bits(1);
    for (shape, form) in forms() {
        let w = matrix(&mut bits, shape, form);
        for rows in 1..=Q8_BLOCK {
            let groups: Vec<Q8Group> = (0..rows * shape.k / 32)
                .map(|_| {
                    // Some groups at the extremes, where integer sums are largest.
                    let extreme = bits.next().is_multiple_of(3);
                    let x = std::array::from_fn(|_| match extreme {
                        true => bits.float().signum(),
                        false => bits.float(),
                    });
                    let mut group = Q8Group::default();
                    row::quantize(&x, &mut group);
                    group
                })
                .collect();
            let x = Q8Block {
                rows,
                groups: &groups,
            };
            for tile in 0..shape.n.div_ceil(LANES) {
                let mut expected = [[0f32; LANES]; Q8_BLOCK];
                q8_tile(Isa::PORTABLE, &w, tile, &x, &mut expected[..rows]);
                for isa in Isa::available() {
                    let mut found = [[0f32; LANES]; Q8_BLOCK];
                    q8_tile(isa, &w, tile, &x, &mut found[..rows]);
                    let bits = |y: &[[f32; LANES]; Q8_BLOCK]| y.map(|y| y.map(f32::to_bits));
                    let same = bits(&found) == bits(&expected);
                    assert!(same, "{isa}, {shape:?}, {form:?}, tile {tile}, {rows} rows");
                }
            }
        }
    }
}

#[test]
fn float_tiles_agree_with_dequantized_rows_and_on_every_instruction_set() {
    let mut bits = Bits(2);
    for (shape, form) in forms() {
        let w = matrix(&mut bits, shape, form);
        let x: Vec<f32> = (0..shape.k).map(|_| bits.float()).collect();
        let sums: Vec<f32> = x.chunks(shape.group).map(|x| x.iter().sum()).collect();
        for tile in 0..shape.n.div_ceil(LANES) {
            let [expected] = affine::tile::<1>(&w, tile, [&x], [&sums]);
            for isa in Isa::available() {
                let found = on_isa!(isa, affine::tile::<4>(&w, tile, [&x; 4], [&sums; 4]));
                for found in found {
                    assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits), "{isa}");
                }
            }
            for (lane, y) in expected.iter().enumerate().take(shape.n - tile * LANES) {
                let mut row = vec![0f32; shape.k];
                w.dequantize_row(tile * LANES + lane, &mut row);
                let terms = row
                    .iter()
                    .zip(&x)
                    .map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (sum, magnitude) = terms.fold((0.0, 0.0), |(s, m), t| (s + t, m + t.abs()));
                assert!(
                    (f64::from(*y) - sum).abs() <= 1e-5 * magnitude,
                    "{shape:?} {form:?}"
                );
            }
        }
    }
}

#[test]
fn dense_dots_agree_on_every_instruction_set_and_with_f64() {
    let mut bits = Bits(3);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for k in [1, 15, 16, 64, 100] {
            // One byte off, since files need not align tensors.
            let bytes = |bits: &mut Bits| -> Vec<u8> {
                let elements = (0..k).flat_map(|_| match dtype {
                    Dtype::F32 => bits.float().to_le_bytes().to_vec(),
                    Dtype::F16 => bits.half().to_le_bytes().to_vec(),
                    Dtype::BF16 => half::bf16::from_f32(bits.float()).to_le_bytes().to_vec(),
                });
                std::iter::once(0).chain(elements).collect()
            };
            let (a, b) = (bytes(&mut bits), bytes(&mut bits));
            let x: Vec<f32> = (0..k).map(|_| bits.float()).collect();
            let [expected] = dense::dots::<2, 1>(dtype, [&a[1..], &b[1..]], [&x]);
            for isa in Isa::available() {
                for y in on_isa!(isa, dense::dots::<2, 3>(dtype, [&a[1..], &b[1..]], [&x; 3])) {
                    assert_eq!(
                        y.map(f32::to_bits),
                        expected.map(f32::to_bits),
                        "{isa} {dtype} {k}"
                    );
                }
            }
        }
    }
}

/// K and V of a few positions, and queries.
struct Heads {
    head_dim: usize,
    /// [head_dim][stride]
    k: Vec<Bf16>,
    stride: usize,
    /// [positions][head_dim]
    v: Vec<Bf16>,
    /// [queries][head_dim]
    q: Vec<Vec<f32>>,
    /// [queries][positions]
    weights: Vec<Vec<f32>>,
}

/// Attention of G queries: sums in order of columns, and of positions, one by one, on every instruction set.
fn check_attention<const G: usize>(heads: &Heads, count: usize) {
    let wide = |x: Bf16| half::bf16::from_bits(x.0).to_f32();
    let Heads {
        head_dim,
        k,
        stride,
        v,
        q,
        weights,
    } = heads;
    for isa in Isa::available() {
        let mut found = vec![vec![0f32; count.next_multiple_of(LANES)]; G];
        let mut to = found.iter_mut();
        let to: [&mut [f32]; G] = std::array::from_fn(|_| &mut **to.next().unwrap());
        let queries: [&[f32]; G] = std::array::from_fn(|g| &*q[g]);
        on_isa!(
            isa,
            attend::scores(isa, queries, k, *stride, count, 0.125, to)
        );
        let mut sums = vec![vec![0.5f32; *head_dim]; G];
        let mut to = sums.iter_mut();
        let to: [&mut [f32]; G] = std::array::from_fn(|_| &mut **to.next().unwrap());
        let of: [&[f32]; G] = std::array::from_fn(|g| &weights[g][..count]);
        let row = |p: usize| &v[p * head_dim..][..*head_dim];
        on_isa!(isa, attend::accumulate(isa, of, row, to));
        for g in 0..G {
            for p in 0..count {
                let terms = (0..*head_dim).map(|d| (wide(k[d * stride + p]), q[g][d]));
                let expected = terms.fold(0f32, |sum, (k, q)| k.mul_add(q, sum)) * 0.125;
                let place = format!("{isa}, {G} queries, {count} positions: score {p}");
                assert_eq!(found[g][p].to_bits(), expected.to_bits(), "{place}");
            }
            for d in 0..*head_dim {
                let terms = (0..count).map(|p| (wide(v[p * head_dim + d]), weights[g][p]));
                let expected = terms.fold(0.5f32, |sum, (v, weight)| v.mul_add(weight, sum));
                let place = format!("{isa}, {G} queries, {count} positions: column {d}");
                assert_eq!(sums[g][d].to_bits(), expected.to_bits(), "{place}");
            }
        }
    }
}

#[test]
fn attention_sums_in_order_on_every_instruction_set() {
    let mut bits = Bits(4);
    for head_dim in [16, 40, 64, 112, 128] {
        let (positions, stride) = (96, 112);
        let mut some = |count: usize| (0..count).map(|_| bits.float()).collect::<Vec<f32>>();
        let narrow = |x: Vec<f32>| -> Vec<Bf16> {
            x.into_iter()
                .map(|x| Bf16(half::bf16::from_f32(x).to_bits()))
                .collect()
        };
        let heads = Heads {
            head_dim,
            k: narrow(some(head_dim * stride)),
            stride,
            v: narrow(some(positions * head_dim)),
            q: (0..4).map(|_| some(head_dim)).collect(),
            weights: (0..4).map(|_| some(positions)).collect(),
        };
        for count in [1, 15, 16, 17, 33, 64, 70, 96] {
            check_attention::<1>(&heads, count);
            check_attention::<2>(&heads, count);
            check_attention::<3>(&heads, count);
            check_attention::<4>(&heads, count);
        }
    }
}
