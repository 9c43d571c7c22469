//! What the phase costs: spills on all architectures, instructions of a unit and of a tree.

use crate::case::Case;
use crate::support::ARCHITECTURES;
use crate::tree::Tree;

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn nothing_spills_on_any_architecture() {
    let check = |head_dim, is_f16, architecture| {
        let case = Case {
            head_dim,
            is_f16,
            ..Case::default()
        };
        assert!(
            !case.source().registers(architecture).is_empty(),
            "{case:?}"
        );
    };
    for head_dim in [64, 128, 256] {
        for architecture in ARCHITECTURES {
            check(head_dim, false, architecture);
        }
        // Another instruction in the place of one: once is enough.
        check(head_dim, true, "sm_90a");
    }
}

#[test]
fn a_unit_of_a_decode_step_is_cheap() {
    let base = Case {
        head_dim: 128,
        group: 4,
        kv_heads: 1,
        blocks: 1,
        rope_pairs: 64,
        ..Case::default()
    };
    let counters = |length| Case { length, ..base }.run().report.counters;
    let (few, many) = (counters(1000), counters(2024));
    let of_warp = (many.warp_instructions - few.warp_instructions) / 16 / 8;
    // An H100 loads 32 KiB on each SM in some 2200 cycles; two warps of each of its four schedulers have this many.
    assert!(of_warp < 750, "{of_warp} instructions");
    let memory = &many.memory;
    assert!(memory.shared_wavefronts * 100 < memory.shared_ideal_wavefronts * 103);
    assert_eq!(memory.local_bytes, 0);
    // Each byte of K and V once.
    assert_eq!(memory.async_bytes, 2 * 2024 * 128 * 2);
}

#[test]
fn a_tree_costs_what_a_chain_does() {
    for rows in [16, 32, 64] {
        let case = Case {
            head_dim: 128,
            group: 4,
            kv_heads: 1,
            blocks: 8,
            rope_pairs: 64,
            length: 40,
            rows,
            ..Case::default()
        };
        let chain = case.run().report.counters;
        let tree = case.run_tree(&Tree::random(rows, 8, 3)).report.counters;
        assert!(tree.warp_instructions * 10 < chain.warp_instructions * 14);
        assert_eq!(tree.memory.local_bytes, 0);
        let memory = &tree.memory;
        assert!(memory.shared_wavefronts * 100 < memory.shared_ideal_wavefronts * 110);
    }
}
