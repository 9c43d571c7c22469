//! A row of a tree has the bits that it has in a chain of its ancestors.

use crate::case::Case;
use crate::reference::check_tree;
use crate::tree::Tree;
use virtual_gpu::{Arch, Checks};

/// Each row's output, K and V, in one call of the tree and in calls of the chains from its roots to its leaves.
fn assert_chains(case: Case, tree: &Tree) {
    let case = Case {
        rows: tree.rows(),
        ..case
    };
    let whole = case.run_tree(tree);
    let width = (case.query_heads() * case.head_dim) as usize;
    let d = case.head_dim as usize;
    let mut seen = vec![false; tree.rows() as usize];
    for leaf in tree.leaves() {
        let path = tree.path(leaf);
        let chain = case.run_path(tree, leaf);
        for (index, &row) in path.iter().enumerate() {
            if std::mem::replace(&mut seen[row as usize], true) {
                continue;
            }
            let of = |outcome: &[u16], row: usize| outcome[row * width..][..width].to_vec();
            assert!(
                of(&whole.output, row as usize) == of(&chain.output, index),
                "{case:?}, {tree:?}: output of row {row}"
            );
            for head in 0..2 * case.kv_heads as usize {
                let of = |kv: &[u16], rows: usize, row: usize| {
                    let positions = case.length as usize + rows;
                    let place = head * positions + case.length as usize + row;
                    kv[place * d..][..d].to_vec()
                };
                assert!(
                    of(&whole.kv, seen.len(), row as usize) == of(&chain.kv, path.len(), index),
                    "{case:?}, {tree:?}: K or V of row {row}"
                );
            }
        }
    }
    assert!(seen.iter().all(|seen| *seen));
}

fn narrow() -> Case {
    Case {
        head_dim: 32,
        rope_pairs: 16,
        has_norms: true,
        group: 3,
        cancels: true,
        ..Case::default()
    }
}

/// The same without the checks that take most of the time.
fn quick(case: Case) -> Case {
    Case {
        checks: Checks::Bounds,
        ..case
    }
}

#[test]
fn small_trees_with_all_checks() {
    let two_roots = Tree::new(vec![None, None, Some(0), Some(1)]);
    // Its rows are neither in order of depth nor of their ancestors.
    let mixed = Tree::new(
        [
            None,
            Some(0),
            Some(1),
            Some(0),
            Some(2),
            Some(3),
            Some(1),
            Some(4),
        ]
        .to_vec(),
    );
    for (length, window, blocks) in [(0, 0, 4), (62, 0, 1), (125, 5, 4), (1021, 0, 132)] {
        for tree in [&two_roots, &mixed] {
            let case = Case {
                length,
                window,
                blocks,
                // Of chains: single steps.
                rows_of_call: 1,
                ..narrow()
            };
            assert_chains(case, tree);
        }
    }
}

#[test]
fn lengths_around_everything() {
    let tree = Tree::random(12, 4, 5);
    for boundary in [16, 32, 64, 128, 1024] {
        for length in [boundary - 9, boundary - 1, boundary, boundary + 1] {
            assert_chains(quick(Case { length, ..narrow() }), &tree);
        }
    }
}

#[test]
fn shapes_of_trees() {
    let trees = [
        Tree::star(64),
        Tree::comb(64),
        Tree::comb(63),
        Tree::random(64, 64, 1),
        Tree::random(33, 3, 2),
        Tree::random(17, 2, 3),
        Tree::chain(20),
    ];
    for (tree, length) in trees.iter().zip([70, 100, 40, 127, 250, 8, 120]) {
        assert_chains(
            quick(Case {
                length,
                group: 1,
                kv_heads: 1,
                ..narrow()
            }),
            tree,
        );
    }
}

/// A path that crosses two units: 64 rows deep, with a leaf at the end that keeps it from being a chain.
#[test]
fn deep_trees() {
    let mut parents: Vec<Option<u32>> = (0..63).map(|row: u32| row.checked_sub(1)).collect();
    parents.push(Some(61));
    let tree = Tree::new(parents);
    for length in [63, 64, 100] {
        let case = quick(Case {
            length,
            blocks: 132,
            ..narrow()
        });
        assert_chains(case, &tree);
    }
}

#[test]
fn windows_over_trees() {
    for (window, length) in [(1, 40), (3, 126), (7, 60), (16, 64), (70, 200)] {
        let case = Case {
            window,
            length,
            ..narrow()
        };
        assert_chains(quick(case), &Tree::random(14, 4, u64::from(window)));
    }
}

#[test]
fn heads_that_models_have() {
    for (head_dim, group, kv_heads, is_f16) in
        [(64, 4, 1, true), (80, 5, 1, false), (128, 4, 1, false)]
    {
        let case = Case {
            head_dim,
            group,
            kv_heads,
            is_f16,
            rope_pairs: head_dim / 2,
            length: 150,
            cancels: true,
            ..Case::default()
        };
        assert_chains(quick(case), &Tree::random(10, 3, 9));
    }
}

/// Which 16 positions are added at once shows, and on Ampere and Ada which eight.
#[test]
fn sums_have_the_order_of_positions() {
    for (compute, tensor_cores) in [(80, Arch::Ampere), (90, Arch::Hopper)] {
        for length in [0, 9, 60, 124, 1016] {
            let case = Case {
                length,
                compute,
                tensor_cores,
                rows_cancel: true,
                has_norms: false,
                rope_pairs: 0,
                ..narrow()
            };
            assert_chains(quick(case), &Tree::random(40, 2, 11));
            assert_chains(quick(case), &Tree::comb(50));
        }
    }
}

#[test]
fn a_tree_in_f64() {
    let base = Case {
        rows: 24,
        length: 120,
        ..Case::default()
    };
    let trees = [Tree::random(24, 5, 1), Tree::star(24), Tree::comb(24)];
    let windowed = Case { window: 11, ..base };
    let worst = trees.iter().flat_map(|tree| {
        [base, windowed].map(|case| check_tree(&case, tree, &case.run_tree(tree)))
    });
    assert!(worst.fold(0f64, f64::max) > 0.25);
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn trees_with_heads_of_all_sizes_and_groups() {
    let shapes = [
        (16, 1, 1),
        (32, 8, 1),
        (48, 2, 2),
        (64, 4, 3),
        (80, 7, 1),
        (96, 1, 2),
        (112, 3, 1),
        (128, 4, 2),
        (144, 2, 1),
        (176, 1, 1),
        (192, 5, 1),
        (256, 2, 1),
    ];
    for (index, (head_dim, group, kv_heads)) in shapes.into_iter().enumerate() {
        for is_f16 in [false, true] {
            for (length, rows) in [(57, 40), (129, 9)] {
                let case = Case {
                    head_dim,
                    group,
                    kv_heads,
                    is_f16,
                    length,
                    rope_pairs: head_dim / 2,
                    has_norms: is_f16,
                    compute: if is_f16 { 80 } else { 90 },
                    cancels: true,
                    ..Case::default()
                };
                assert_chains(quick(case), &Tree::random(rows, 6, index as u64));
            }
        }
    }
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn grids_and_rooms_do_not_show_in_trees() {
    let tree = Tree::random(48, 8, 3);
    let base = Case {
        head_dim: 128,
        rope_pairs: 64,
        group: 4,
        kv_heads: 1,
        rows: 48,
        length: 1015,
        cancels: true,
        ..Case::default()
    };
    let wanted = base.run_tree(&tree);
    for (blocks, scratch, schedule) in [
        (1, 65536, 0),
        (8, 16384, 1),
        (132, 24576, 2),
        (30, 32768, 3),
        (4, 131_072, 4),
    ] {
        let case = Case {
            blocks,
            scratch,
            schedule,
            ..base
        };
        let got = case.run_tree(&tree);
        assert!(
            got.output == wanted.output && got.kv == wanted.kv,
            "{case:?}"
        );
    }
    assert_chains(
        quick(Case {
            scratch: 16384,
            ..base
        }),
        &tree,
    );
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn many_random_trees() {
    for seed in 0..60 {
        let draw = |a: u64, below: u64| ((seed * 7919 + a * 104_729) % 65_521 % below) as u32;
        let boundary = [16, 64, 128, 256, 1024, 2048][draw(1, 6) as usize];
        let case = Case {
            length: boundary + draw(2, 24) - 12,
            window: [0, 0, 9, 40, 300][draw(3, 5) as usize],
            group: 1 + draw(4, 8),
            kv_heads: 1 + draw(5, 2),
            blocks: [1, 3, 8, 132][draw(6, 4) as usize],
            is_f16: draw(7, 2) == 1,
            schedule: seed,
            ..narrow()
        };
        assert_chains(
            quick(case),
            &Tree::random(1 + draw(8, 64), 1 + draw(9, 12), seed),
        );
    }
}
