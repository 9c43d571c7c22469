//! A consumer written from the documentation alone: it takes a block's stages one after the other, multiplies
//! fragments as warps do, and must arrive at the products of the loaded matrices.

use crate::decode::decode;
use crate::models::{Sizes, TOY, plan};
use crate::weights::{BF16, Kind, Random, Weights, four_bits};
use half::f16;
use std::collections::{BTreeMap, VecDeque};
use stheno_codegen::layout::{
    CHUNK, Codes, Cut, Group, Layout, Mappings, SLICE, Stack, WeightFormat,
};
use stheno_codegen::plan::{Dtype, WeightId};
use stheno_codegen::program::stages_of;

/// [16 rows, 8 tokens].
type Tile = [[f32; 8]; 16];

/// `mma.m16n8k16` on the registers of all lanes.
fn mma(a: &[[[f32; 2]; 4]; 32], b: &[[[f32; 2]; 2]; 32], c: &mut Tile) {
    let (mut left, mut right) = ([[0.0; 16]; 16], [[0.0; 8]; 16]);
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for half in 0..2 {
            left[g][2 * t + half] = a[lane][0][half];
            left[g + 8][2 * t + half] = a[lane][1][half];
            left[g][2 * t + 8 + half] = a[lane][2][half];
            left[g + 8][2 * t + 8 + half] = a[lane][3][half];
            right[2 * t + half][g] = b[lane][0][half];
            right[2 * t + 8 + half][g] = b[lane][1][half];
        }
    }
    for (row, sums) in c.iter_mut().enumerate() {
        for (token, sum) in sums.iter_mut().enumerate() {
            *sum += (0..16).map(|k| left[row][k] * right[k][token]).sum::<f32>();
        }
    }
}

/// Activations of 8 tokens, and what a lane holds of them.
struct Activations {
    k: usize,
    values: Vec<f32>,
}

impl Activations {
    fn at(&self, token: usize, k: usize) -> f32 {
        if k < self.k {
            self.values[token * self.k + k]
        } else {
            0.0
        }
    }

    /// b0 and b1 of a k16 step that begins in k32 block `32 * block`; `keep` says of which lanes t.
    fn fragment(
        &self,
        block: usize,
        step: usize,
        keep: impl Fn(usize) -> bool,
    ) -> [[[f32; 2]; 2]; 32] {
        std::array::from_fn(|lane| {
            let (g, t) = (lane / 4, lane % 4);
            let j = 32 * block + 8 * t + 4 * step;
            let x = |k| if keep(t) { self.at(g, k) } else { 0.0 };
            [[x(j), x(j + 1)], [x(j + 2), x(j + 3)]]
        })
    }
}

/// The registers of all lanes for the k16 step `step` of a block, of the `term`-th number whose sum an element is.
fn weights(format: WeightFormat, block: &[u8], step: usize, term: usize) -> [[[f32; 2]; 4]; 32] {
    let steps = format.atom_k() / 16;
    std::array::from_fn(|lane| {
        let bytes = &block[512 * (step / steps) + 16 * lane..];
        let word = |i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap());
        decode(format, std::array::from_fn(word))[step % steps][term]
    })
}

/// One warp's slice of one block.
fn slice(
    format: WeightFormat,
    block: &[u8],
    kc: usize,
    s: usize,
    first: usize,
    x: &Activations,
    acc: &mut Tile,
) {
    let steps = (s * SLICE / 16)..((s + 1) * SLICE / 16);
    let b =
        |step: usize, keep: fn(usize) -> bool| x.fragment((first / 16 + step) / 2, step % 2, keep);
    let Some(group) = format.group() else {
        for step in steps {
            let terms = if format == WeightFormat::F16 { 2 } else { 1 };
            for term in 0..terms {
                let a = weights(format, block, step, term);
                mma(&a, &b(step, |_| true), acc);
            }
        }
        return;
    };
    let scales = &block[16 * kc * format.bits() / 8..];
    let mut fold = |steps: std::ops::Range<usize>, keep: fn(usize) -> bool, group: usize| {
        let (mut part, mut sum) = ([[0.0; 8]; 16], [[0.0; 8]; 16]);
        for step in steps {
            mma(&weights(format, block, step, 0), &b(step, keep), &mut part);
            mma(&[[[1.0; 2]; 4]; 32], &b(step, keep), &mut sum);
        }
        let read = |at: usize| f16::from_le_bytes([scales[at], scales[at + 1]]).to_f32();
        for row in 0..16 {
            let (g, upper) = (row % 8, row / 8);
            for token in 0..8 {
                let acc = &mut acc[row][token];
                if format.has_offset() {
                    *acc = read(64 * group + 8 * g + 2 * upper).mul_add(part[row][token], *acc);
                    *acc = read(64 * group + 8 * g + 4 + 2 * upper).mul_add(sum[row][token], *acc);
                } else {
                    *acc = read(32 * group + 4 * g + 2 * upper).mul_add(part[row][token], *acc);
                }
            }
        }
    };
    match group {
        Group::G16 => {
            for block in 2 * s..2 * s + 2 {
                let steps = 2 * block..2 * block + 2;
                fold(steps.clone(), |t| t < 2, 2 * block);
                fold(steps, |t| t >= 2, 2 * block + 1);
            }
        }
        Group::G32 => {
            for block in 2 * s..2 * s + 2 {
                fold(2 * block..2 * block + 2, |_| true, block);
            }
        }
        Group::G128 => fold(steps, |_| true, s / 2),
        Group::Row => fold(steps, |_| true, 0),
    }
}

/// Takes the stages of a span of `count` tiles from the ring and multiplies, `width` tiles of a group at a time. Returns the
/// tiles' sums.
fn consume(
    cut: Cut,
    stack: &Stack,
    count: u32,
    width: u32,
    ring: &mut VecDeque<Vec<u8>>,
    x: &Activations,
) -> Vec<Tile> {
    let chunks = stack.padded_k().div_ceil(CHUNK);
    let mut tiles = Vec::new();
    let mut stage = Vec::new();
    for group in cut.groups(count) {
        let group = group.len() as u32;
        for begin in (0..group).step_by(width as usize) {
            let mut warps = vec![[[[0.0; 8]; 16]; 8]; width.min(group - begin) as usize];
            for chunk in 0..chunks {
                let kc = (stack.padded_k() - chunk * CHUNK).min(CHUNK);
                let bytes = stack.format.block_bytes(kc);
                if chunk == 0 || kc < CHUNK || width < group {
                    assert!(
                        stage.is_empty(),
                        "a stage ends with its pass, before a short chunk, and in parts of groups with each chunk"
                    );
                }
                for acc in &mut warps {
                    if stage.is_empty() {
                        stage = ring.pop_front().unwrap();
                    }
                    let block: Vec<u8> = stage.drain(..bytes).collect();
                    for (s, acc) in acc.iter_mut().enumerate().take(kc / SLICE) {
                        slice(stack.format, &block, kc, s, chunk * CHUNK, x, acc);
                    }
                }
            }
            assert!(stage.is_empty());
            tiles.extend(warps.iter().map(|warps| -> Tile {
                std::array::from_fn(|row| {
                    std::array::from_fn(|token| {
                        let slices = warps.iter().map(|acc| acc[row][token]);
                        slices.reduce(|sum, slice| sum + slice).unwrap()
                    })
                })
            }));
        }
    }
    tiles
}

fn check(kind: impl Fn(&str) -> Kind, sizes: Sizes, cut: Cut, width: u32) {
    let plan = plan(sizes);
    let source = Weights::random(&plan, 21, kind);
    let mappings = Mappings::new(&plan, &source).unwrap();
    let layout = Layout::new(&plan, &mappings.formats(), cut).unwrap();
    let mut arena = vec![0xa5; layout.arena_bytes as usize];
    layout
        .build(&plan, &mappings, &source, &mut arena, |_, _| ())
        .unwrap();
    for segment in &layout.segments {
        let mut random = Random(5);
        let mut inputs: BTreeMap<u32, Activations> = BTreeMap::new();
        let mut outputs: BTreeMap<(WeightId, u32), [f32; 8]> = BTreeMap::new();
        let ids = segment.phases.iter().flat_map(|phase| &phase.placements);
        for (id, sm) in ids.flat_map(|id| (0..cut.sm_count as usize).map(move |sm| (id, sm))) {
            let placement = layout.placement(*id);
            let (stack, tiles) = (&placement.stack, placement.tiles(sm));
            let count = tiles.end - tiles.start;
            let mut ring = VecDeque::new();
            for (offset, bytes) in stages_of(stack, cut, count, width) {
                assert!(bytes <= cut.stage_bytes && offset.is_multiple_of(16));
                let at = (placement.offsets[sm] + offset) as usize;
                ring.push_back(arena[at..at + bytes as usize].to_vec());
            }
            let k = stack.k as usize;
            let x = inputs.entry(k as u32).or_insert_with(|| Activations {
                k,
                values: (0..8 * k)
                    .map(|_| (random.next() % 9) as f32 - 4.0)
                    .collect(),
            });
            let sums = consume(cut, stack, count, width, &mut ring, x);
            assert!(ring.is_empty());
            for (tile, sums) in tiles.zip(sums) {
                for (r, sums) in (0..).zip(sums) {
                    let Some((part, row)) = stack.row(tile, r) else {
                        assert_eq!(sums, [0.0; 8], "padding adds nothing");
                        continue;
                    };
                    let again = outputs.insert((part.weight, row), sums);
                    assert_eq!(again, None);
                }
            }
        }
        let placements = segment.phases.iter().flat_map(|phase| &phase.placements);
        let parts = placements.flat_map(|id| &layout.placement(*id).stack.parts);
        for part in parts {
            for row in 0..part.n {
                let weights = source.0[&part.weight].row(row as usize);
                let x = &inputs[&(weights.len() as u32)];
                for (token, found) in outputs[&(part.weight, row)].iter().enumerate() {
                    let products = weights.iter().enumerate().map(|(k, w)| w * x.at(token, k));
                    let expected: f64 = products.clone().map(f64::from).sum();
                    let size: f64 = products.map(|p| f64::from(p.abs())).sum();
                    let error = (f64::from(*found) - expected).abs();
                    assert!(
                        error <= 1e-4 * (1.0 + size),
                        "{} {row}: {found} for {expected}",
                        plan.weight(part.weight).name
                    );
                }
            }
        }
    }
}

#[test]
fn a_consumer_computes_the_products() {
    let sizes = Sizes { layers: 1, ..TOY };
    let kinds = [
        BF16,
        Kind::Dense(Dtype::F16),
        Kind::Coded(Codes::E4M3, Group::G128),
        four_bits(Group::G32),
        four_bits(Group::G128),
        four_bits(Group::Row),
        Kind::Coded(Codes::Offset { bits: 4 }, Group::G16),
        Kind::Coded(Codes::Offset { bits: 5 }, Group::G32),
        Kind::Coded(Codes::Centred { bits: 6, zero: 32 }, Group::G16),
        Kind::Coded(Codes::Centred { bits: 8, zero: 128 }, Group::Row),
    ];
    for (i, kind) in (0u32..).zip(kinds) {
        let cut = Cut {
            sm_count: 1 + i % 4,
            tile_group: 1 << (i % 3),
            stage_bytes: (16 << 10) + 3000 * (i % 2),
        };
        // v of another format than q and k, as mixed GGUF files have it.
        let other = four_bits(Group::G32);
        let kind = |name: &str| if name == "0.v" { other } else { kind };
        // Whole groups, and parts of them.
        for width in [cut.tile_group, 1 + i % 2] {
            check(kind, sizes, cut, width);
        }
    }
}
