//! What is packed is what was loaded, for every format, row order, number of SMs and tile group.

use crate::models::{Sizes, TOY, plan};
use crate::weights::{BF16, Kind, Weights, four_bits};
use proptest::prelude::*;
use stheno_codegen::layout::{Codes, Cut, Group, Layout, Mappings, StepBytes};
use stheno_codegen::plan::{Dtype, Plan};

fn group() -> impl Strategy<Value = Group> {
    prop_oneof![
        Just(Group::G16),
        Just(Group::G32),
        Just(Group::G128),
        Just(Group::Row)
    ]
}

/// Kinds that map without loss.
fn kind() -> impl Strategy<Value = Kind> {
    let coded = |codes| group().prop_map(move |group| Kind::Coded(codes, group));
    prop_oneof![
        Just(BF16),
        Just(Kind::Dense(Dtype::F16)),
        coded(Codes::E4M3),
        coded(Codes::Centred { bits: 4, zero: 8 }),
        coded(Codes::Offset { bits: 4 }),
        coded(Codes::Centred { bits: 5, zero: 16 }),
        coded(Codes::Offset { bits: 5 }),
        coded(Codes::Centred { bits: 6, zero: 32 }),
        coded(Codes::Centred { bits: 8, zero: 128 }),
    ]
}

fn build(plan: &Plan, weights: &Weights, mappings: &Mappings, cut: Cut) -> (Layout, Vec<u8>) {
    let layout = Layout::new(plan, &mappings.formats(), cut).unwrap();
    // What nobody writes is seen as such.
    let mut arena = vec![0xa5; layout.arena_bytes as usize];
    let mut last = (0, 1);
    layout
        .build(plan, mappings, weights, &mut arena, |done, total| {
            assert!(done > last.0 && done <= total);
            last = (done, total);
        })
        .unwrap();
    assert_eq!(last.0, last.1);
    (layout, arena)
}

fn check(plan: &Plan, weights: &Weights, cut: Cut) -> Vec<StepBytes> {
    let mappings = Mappings::new(plan, weights).unwrap();
    let (layout, arena) = build(plan, weights, &mappings, cut);
    for (index, placement) in (0..).zip(&layout.placements) {
        for part in &placement.stack.parts {
            assert!(mappings.get(part.weight).unwrap().lossless);
            let source = &weights.0[&part.weight];
            for row in 0..part.n {
                let id = stheno_codegen::layout::PlacementId(index);
                let found = layout.read_row(&arena, &mappings, id, part.weight, row);
                assert_eq!(
                    found.unwrap(),
                    source.row(row as usize),
                    "{placement:?} {row}"
                );
            }
        }
    }
    layout.validate(plan, &mappings.formats()).unwrap()
}

/// A stage of at least one bf16 block.
const STAGE: u32 = 16 << 10;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_arena_reads_back(
        kinds in proptest::collection::vec(kind(), 3),
        (heads, head_dim) in prop_oneof![Just((2u32, 16u32)), Just((1, 48)), Just((3, 12))],
        hidden in 1..40u32,
        intermediate in 1..80u32,
        vocab in 1..50u32,
        tied in any::<bool>(),
        sm_count in 1..10u32,
        tile_group in (0..4u32).prop_map(|shift| 1 << shift),
        stage in 0..3u32,
        seed in any::<u64>(),
    ) {
        let sizes = Sizes {
            layers: 1, hidden: 16 * hidden, intermediate: 8 * intermediate, heads, kv_heads: heads,
            head_dim, vocab, tied, ..TOY
        };
        let plan = plan(sizes);
        // q, k and v may differ, and so may the head; gate and up are alike.
        let weights = Weights::random(&plan, seed, |name| match name {
            "embed" | "head" | "0.v" => kinds[0],
            "0.q" | "0.o" | "draft.q" => kinds[1],
            _ => kinds[2],
        });
        let cut = Cut { sm_count, tile_group, stage_bytes: STAGE + 4000 * stage };
        check(&plan, &weights, cut);
    }
}

/// Gate and up of different integer formats meet in one that holds both.
#[test]
fn unlike_gate_and_up_meet() {
    let plan = plan(TOY);
    let gates = [
        four_bits(Group::G32),
        Kind::Coded(Codes::Offset { bits: 4 }, Group::G128),
        Kind::Coded(Codes::Centred { bits: 6, zero: 32 }, Group::G16),
    ];
    for gate in gates {
        for up in gates {
            let weights = Weights::random(&plan, 7, |name| match name.rsplit('.').next() {
                Some("gate") => gate,
                Some("up") => up,
                _ => BF16,
            });
            let cut = Cut {
                sm_count: 3,
                tile_group: 2,
                stage_bytes: STAGE,
            };
            check(&plan, &weights, cut);
        }
    }
}

/// Bytes of a step of known shapes: weights without padding, and how little padding is added.
#[test]
fn a_step_streams_the_weights() {
    let plan = plan(TOY);
    let weights = Weights::random(&plan, 1, |_| BF16);
    let cut = Cut {
        sm_count: 4,
        tile_group: 2,
        stage_bytes: STAGE,
    };
    let steps = check(&plan, &weights, cut);
    let layer = 96 * (128 + 64 + 64) + 128 * 96 + 3 * 584 * 96;
    assert_eq!(steps[0].weights, 2 * (2 * layer + 77 * 96));
    assert_eq!(steps[1].weights, steps[0].weights);
    assert_eq!(steps[2].weights, 2 * (layer + 77 * 96));
    // 96 columns take two slices, 584 ten, 77 rows five tiles.
    let padded = 128 * (128 + 64 + 64) + 128 * 96 + 2 * 584 * 128 + 96 * 640;
    assert_eq!(steps[0].streamed, 2 * (2 * padded + 80 * 128));
    assert_eq!(steps[0].padding, steps[0].streamed - steps[0].weights);
}
