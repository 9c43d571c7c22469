//! Bits do not depend on how the work is divided, on other rows, or on who comes first.

use crate::case::Case;

/// Output and K and V are the same in all cases.
fn assert_same(cases: impl IntoIterator<Item = Case>) {
    let mut cases = cases.into_iter();
    let first = cases.next().unwrap();
    let wanted = first.run();
    for case in cases {
        let got = case.run();
        assert!(got.output == wanted.output, "{case:?}: output");
        assert!(got.kv == wanted.kv, "{case:?}: K and V");
    }
}

fn narrow() -> Case {
    Case {
        head_dim: 32,
        rope_pairs: 16,
        has_norms: true,
        group: 3,
        ..Case::default()
    }
}

#[test]
fn a_chain_is_its_single_steps() {
    let cases = [
        (0, 64, 0),
        (60, 9, 0),
        (125, 7, 0),
        (1020, 7, 0),
        (1280, 7, 0),
        (1000, 33, 100),
        (250, 16, 5),
    ];
    for (length, rows, window) in cases {
        for is_f16 in [false, true] {
            let chain = Case {
                length,
                rows,
                window,
                is_f16,
                cancels: true,
                ..narrow()
            };
            assert_same([
                chain,
                Case {
                    rows_of_call: 1,
                    ..chain
                },
                Case {
                    rows_of_call: 5,
                    blocks: 132,
                    ..chain
                },
            ]);
        }
    }
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn wide_heads_have_chains_too() {
    for head_dim in [80, 128] {
        let chain = Case {
            head_dim,
            length: 190,
            rows: 5,
            group: 9,
            kv_heads: 1,
            rope_pairs: 20,
            ..Case::default()
        };
        let rows_of_call = 1;
        assert_same([
            chain,
            Case {
                rows_of_call,
                ..chain
            },
        ]);
    }
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn a_step_after_spans_is_that_of_a_chain() {
    let chain = Case {
        head_dim: 16,
        rope_pairs: 8,
        group: 1,
        kv_heads: 1,
        length: 16 * 640,
        rows: 3,
        cancels: true,
        ..Case::default()
    };
    // Items of spans, of super-segments, of segments.
    let blocks = [1, 3, 24, 132];
    let cases = blocks.map(|blocks| Case { blocks, ..chain });
    let steps = cases.map(|case| Case {
        rows_of_call: 1,
        ..case
    });
    assert_same(cases.into_iter().chain(steps));
}

#[test]
fn grids_do_not_show() {
    for (length, rows) in [(4 * 640, 1), (4 * 640, 16), (2 * 640, 64)] {
        let blocks = [1, 4, 8, 132];
        assert_same(blocks.map(|blocks| Case {
            length,
            rows,
            blocks,
            cancels: true,
            ..narrow()
        }));
    }
}

#[test]
fn room_in_shared_memory_does_not_show() {
    for (head_dim, rows) in [(128, 1), (128, 16), (64, 16)] {
        // The smallest takes 16 keys at a time.
        let rooms = [16384, 24576, 32768, 65536, 131_072];
        assert_same(rooms.map(|scratch| Case {
            head_dim,
            rows,
            length: 1280,
            group: 4,
            kv_heads: 1,
            scratch,
            cancels: true,
            ..Case::default()
        }));
    }
}

#[test]
fn schedules_do_not_show() {
    for (length, rows) in [(1280, 16), (2560, 1)] {
        assert_same([0, 1, 2, 3, 4, 5].map(|schedule| Case {
            length,
            rows,
            schedule,
            cancels: true,
            blocks: 20,
            rows_of_call: 8,
            ..narrow()
        }));
    }
}

#[test]
fn both_instruction_sets_agree() {
    assert_same([80, 90].map(|compute| Case {
        length: 1280,
        cancels: true,
        rows: 7,
        compute,
        ..narrow()
    }));
}
