//! What a draft's logits are listed as, against [`likeliest`]: the same tokens with the same bits, whether logits are in memory or only
//! what a head's blocks have kept of them.

use crate::inputs::{Kind, Random};
use crate::support::{Gpu, SHARED_WITHOUT_PRODUCTS, Shape, Source, WITHOUT_PRODUCTS};
use bytemuck::{Pod, Zeroable};
use stheno::speculation::sampling::likeliest;
use stheno_codegen::layout::TILE_ROWS;
use stheno_codegen::program::abi::{ChoosePhase, NONE, ROW_LIMIT, TOP_LIMIT, TopLogprob};
use virtual_gpu::{DevicePointer, LaunchOptions};

const BLOCKS: usize = 5;

fn source() -> Source {
    Source {
        name: "likeliest.cu",
        variant: String::new(),
        text: include_str!("../../kernels/tests/likeliest/likeliest.cu").into(),
        sizes: [
            &WITHOUT_PRODUCTS[..],
            &[
                ("SEGMENT_PREFILL", 0),
                ("SEGMENT_TARGET", 1),
                ("SEGMENT_EXTEND", 3),
                ("SEGMENT_DRAFT", 4),
            ],
        ]
        .concat(),
    }
}

/// `struct Case` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Case {
    workspace: u64,
    logits: u64,
    target_ids: u64,
    logit_scale: f32,
    rows: u32,
    listed: u32,
    wanted: u32,
    phase: ChoosePhase,
}

struct Rows {
    logits: Vec<Vec<f32>>,
    ids: Option<Vec<u32>>,
    scale: f32,
    wanted: usize,
}

impl Rows {
    fn random(random: &mut Random) -> Rows {
        let vocab_size = random.pick(&[1, 7, 16, 101, 333, 1500]);
        let count = random.pick(&[1, 1, 2, 5, 8, 21]);
        let mut row = || {
            let kind = random.pick(&[Kind::Model, Kind::Model, Kind::Ties, Kind::Close]);
            let mut logits = kind.logits(random, vocab_size);
            match random.below(6) {
                // As a mask would leave it, and as a draft that has overflowed.
                0 => logits
                    .iter_mut()
                    .step_by(2)
                    .for_each(|l| *l = -f32::INFINITY),
                1 => logits.fill(-f32::INFINITY),
                2 => logits.iter_mut().for_each(|l| *l *= 1e4),
                3 => logits[vocab_size / 2] = f32::NAN,
                _ => {}
            }
            logits
        };
        let logits = (0..count).map(|_| row()).collect();
        let map = |id: u32| id * 7 + 3;
        Rows {
            logits,
            ids: random
                .one_in(2)
                .then(|| (0..vocab_size as u32).map(map).collect()),
            scale: random.pick(&[1.0, 1.0, 0.75]),
            wanted: random.pick(&[1, 2, 3, 8, 10, TOP_LIMIT]),
        }
    }

    /// A row's list as the host makes it, in bits.
    fn expected(&self, row: usize) -> Vec<(u32, u32)> {
        let scaled: Vec<f32> = self.logits[row].iter().map(|l| l * self.scale).collect();
        let id = |token: u32| self.ids.as_ref().map_or(token, |ids| ids[token as usize]);
        let found = likeliest(&scaled, self.wanted).into_iter();
        let mut list: Vec<_> = found.map(|l| (id(l.token), l.logprob.to_bits())).collect();
        list.resize(self.wanted, (NONE, f32::NEG_INFINITY.to_bits()));
        list
    }

    /// As blocks of the virtual GPU make them; of what they have kept, if `is_kept`.
    fn listed(&self, is_kept: bool, seed: u64) -> Vec<Vec<(u32, u32)>> {
        let mut gpu = Gpu::new(BLOCKS as u32);
        let (count, vocab_size) = (self.logits.len(), self.logits[0].len());
        let mut size = 0u32;
        let mut reserve = |bytes: usize| {
            let at = size;
            size += bytes.next_multiple_of(16) as u32;
            at
        };
        let phase = ChoosePhase {
            logits: reserve(4 * vocab_size * count),
            vocab_size: vocab_size as u32,
            best: reserve(8 * BLOCKS * count),
            choices: NONE,
            top: reserve(8 * TOP_LIMIT * count),
            candidates: NONE,
            adjusted: NONE,
            head: 0,
            listed: reserve(8 * (BLOCKS * ROW_LIMIT + count * vocab_size.div_ceil(TILE_ROWS))),
            unused: 0,
        };
        let workspace = gpu.alloc(size as usize);
        let case = Case {
            workspace: workspace.0,
            logits: gpu.upload(bytemuck::cast_slice(&self.logits.concat())).0,
            target_ids: match &self.ids {
                Some(ids) => gpu.upload(bytemuck::cast_slice(ids)).0,
                None => 0,
            },
            logit_scale: self.scale,
            rows: count as u32,
            listed: if is_kept { self.wanted as u32 } else { 0 },
            wanted: self.wanted as u32,
            phase,
        };
        let parameter = gpu.upload(bytemuck::bytes_of(&case)).0.to_le_bytes();
        let shape = Shape {
            blocks: BLOCKS as u32,
            threads: 256,
            shared: SHARED_WITHOUT_PRODUCTS,
        };
        let options = LaunchOptions {
            seed,
            ..LaunchOptions::default()
        };
        let module = source().module(80);
        for kernel in ["keep", "list"] {
            gpu.launch(&module, kernel, shape, &parameter, &options);
        }
        let list = |row: usize| {
            let at = workspace.0 + u64::from(phase.top) + (8 * TOP_LIMIT * row) as u64;
            let bytes = gpu.download(DevicePointer(at), 8 * self.wanted);
            let entries = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned);
            entries
                .map(|entry: TopLogprob| (entry.token, entry.logprob.to_bits()))
                .collect()
        };
        (0..count).map(list).collect()
    }
}

#[test]
fn lists_are_those_of_the_host() {
    let mut random = Random::new(47);
    let mut both = 0;
    for number in 0..60 {
        let rows = Rows::random(&mut random);
        let fits = rows.logits.len() * rows.wanted <= ROW_LIMIT;
        both += u32::from(fits);
        let ways: &[bool] = if fits { &[false, true] } else { &[false] };
        for &is_kept in ways {
            for (row, found) in rows.listed(is_kept, number).iter().enumerate() {
                let place = format!(
                    "case {number}, kept: {is_kept}, row {row} of {}, {} tokens, {} wanted",
                    rows.logits.len(),
                    rows.logits[0].len(),
                    rows.wanted
                );
                assert_eq!(found, &rows.expected(row), "{place}");
            }
        }
    }
    assert!(both > 20, "{both}");
}
