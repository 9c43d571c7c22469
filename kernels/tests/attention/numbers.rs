//! The phase against f64, over shapes.

use crate::case::Case;
use crate::reference::check;

fn check_all(cases: &[Case]) {
    let worst = cases.iter().map(|case| check(case, &case.run()));
    let worst = worst.fold(0f64, f64::max);
    // A bound that is much wider than what happens would find nothing.
    assert!(worst > 0.25, "{worst}");
}

#[test]
fn a_single_row_after_all_lengths() {
    let base = Case::default();
    let lengths = [0, 1, 63, 64, 127, 128, 129, 1000, 1030, 2100];
    check_all(&lengths.map(|length| Case { length, ..base }));
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn heads_of_all_sizes_and_groups() {
    let base = Case {
        length: 129,
        rows: 2,
        ..Case::default()
    };
    let shape = |head_dim, group, kv_heads| Case {
        head_dim,
        group,
        kv_heads,
        rope_pairs: head_dim / 2,
        ..base
    };
    let mut cases = vec![
        shape(16, 1, 1),
        shape(32, 3, 2),
        shape(48, 2, 1),
        shape(64, 4, 3),
        shape(80, 9, 1),
        shape(96, 1, 4),
        shape(112, 1, 1),
        shape(128, 4, 2),
        shape(176, 1, 1),
        shape(256, 2, 1),
    ];
    for case in cases.clone() {
        cases.push(Case {
            is_f16: true,
            compute: 80,
            ..case
        });
    }
    check_all(&cases);
}

#[test]
fn chains_of_rows() {
    let base = Case {
        head_dim: 32,
        rope_pairs: 16,
        ..Case::default()
    };
    let chain = |rows, length, group, blocks| Case {
        rows,
        length,
        group,
        blocks,
        ..base
    };
    check_all(&[
        chain(2, 127, 1, 1),
        chain(7, 60, 9, 4),
        chain(16, 1000, 4, 132),
        chain(33, 1030, 3, 8),
        chain(64, 0, 1, 4),
        chain(64, 100, 9, 8),
        chain(64, 2100, 4, 132),
    ]);
}

#[test]
fn windows() {
    let base = Case {
        head_dim: 32,
        rope_pairs: 16,
        ..Case::default()
    };
    let window = |window, length, rows, blocks| Case {
        window,
        length,
        rows,
        blocks,
        ..base
    };
    check_all(&[
        window(1, 5, 3, 1),
        window(5, 127, 7, 4),
        window(64, 1000, 16, 132),
        window(100, 1030, 64, 8),
        window(700, 2100, 33, 8),
        window(4096, 300, 2, 4),
    ]);
}

#[test]
fn norms_and_partial_rotation() {
    let base = Case {
        length: 70,
        rows: 7,
        ..Case::default()
    };
    let turned = |head_dim, rope_pairs, has_norms| Case {
        head_dim,
        rope_pairs,
        has_norms,
        ..base
    };
    check_all(&[
        turned(64, 0, false),
        turned(64, 8, true),
        turned(80, 20, true),
        turned(80, 40, true),
        turned(128, 5, false),
        turned(128, 33, true),
    ]);
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn contexts_of_several_spans() {
    let base = Case {
        head_dim: 16,
        rope_pairs: 8,
        group: 1,
        kv_heads: 1,
        ..Case::default()
    };
    let long = |length, rows, blocks| Case {
        length,
        rows,
        blocks,
        ..base
    };
    check_all(&[
        long(8190, 4, 1),
        long(9000, 1, 1),
        long(9000, 1, 4),
        long(9000, 40, 4),
        long(17000, 1, 1),
        long(17000, 1, 132),
    ]);
}
