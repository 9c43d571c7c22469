use super::*;
use proptest::prelude::*;

/// (name, nodes at each depth), as Medusa's and EAGLE's files have them.
const SHAPES: &[(&str, &[usize])] = &[
    ("mc_sim_7b_63", &[10, 28, 23, 2]),
    ("vicuna_7b_stage1", &[10, 32, 20, 1]),
    ("vicuna_7b_stage1_ablation", &[10, 21, 25, 7]),
    ("vicuna_7b_stage2", &[10, 23, 23, 7]),
    ("vicuna_13b_stage1", &[10, 29, 23, 1]),
    ("vicuna_13b_stage2", &[10, 19, 25, 9]),
    ("vicuna_33b_stage1", &[10, 34, 19]),
    ("vicuna_33b_stage2", &[10, 24, 24, 5]),
    ("zephyr_stage2", &[10, 27, 23, 3]),
    ("eagle1_25", &[4, 8, 8, 3, 2]),
];

#[test]
fn shapes_of_the_named() {
    assert!(Choices::names().eq(SHAPES.iter().map(|&(name, _)| name)));
    for &(name, depths) in SHAPES {
        let choices = Choices::named(name).unwrap();
        let at = |depth| choices.paths().iter().filter(|p| p.len() == depth).count();
        let counts: Vec<usize> = (1..=choices.depth() as usize).map(at).collect();
        assert_eq!(counts, depths, "{name}");
        assert_eq!(choices.nodes(), 1 + depths.iter().sum::<usize>());
        assert_eq!(choices.max_rank_at(1), Some(depths[0] as u32 - 1));
        let ranks = (1..=choices.depth()).filter_map(|depth| choices.max_rank_at(depth));
        assert_eq!(choices.max_rank(), ranks.max());
        let json = choices.to_json();
        assert_eq!(Choices::from_json(&json, Path::new("x")).unwrap(), choices);
    }
    assert_eq!(Choices::named("mc_sim_7b_64"), None);
}

/// The values that Medusa's reference computes for its default tree.
#[test]
fn buffers_of_mc_sim_7b_63() {
    let choices = Choices::named("mc_sim_7b_63").unwrap();
    let mut indices: Vec<u32> = (0..=10).collect();
    for run in [11..=20, 11..=17, 11..=13, 11..=12] {
        indices.extend(run);
    }
    indices.extend([11; 6]);
    for run in [21..=30, 21..=23, 21..=22] {
        indices.extend(run);
    }
    indices.extend([21; 5]);
    indices.extend([21, 22, 21, 31, 32]);
    assert_eq!(choices.tree_indices(10).unwrap(), indices);

    let runs: [(u32, usize); 22] = [
        (0, 10),
        (1, 10),
        (2, 7),
        (3, 3),
        (4, 2),
        (5, 1),
        (6, 1),
        (7, 1),
        (8, 1),
        (9, 1),
        (10, 1),
        (11, 10),
        (12, 3),
        (13, 2),
        (14, 1),
        (15, 1),
        (16, 1),
        (17, 1),
        (18, 1),
        (21, 2),
        (28, 1),
        (39, 2),
    ];
    let parents = runs
        .iter()
        .flat_map(|&(parent, count)| vec![Some(parent); count]);
    let expected: Vec<Option<u32>> = std::iter::once(None).chain(parents).collect();
    assert_eq!(choices.parents(), expected);

    let tree = numbered(&choices);
    assert_eq!(tree.parents(), expected);
    let rows = tree.retrieve_indices();
    assert_eq!((rows.len(), rows[0].len()), (42, 5));
    let first = [
        [0, 1, 11, 39, 63],
        [0, 1, 11, 39, 62],
        [0, 3, 28, 61, -1],
        [0, 2, 21, 60, -1],
    ];
    assert_eq!(rows[..4], first);
    let ones: u32 = (0..tree.len())
        .map(|node| tree.mask(node).count_ones())
        .sum();
    assert_eq!(ones, 207);
}

/// Filled with candidates whose tokens are their index in the flat list of candidates.
fn numbered(choices: &Choices) -> Tree {
    let candidates: Vec<Vec<(u32, f32)>> = (0..5)
        .map(|head| {
            (0..10)
                .map(|rank| (1 + head * 10 + rank, -1.0 - rank as f32))
                .collect()
        })
        .collect();
    choices.fill(0, &candidates).unwrap()
}

#[test]
fn filling() {
    for name in Choices::names() {
        let choices = Choices::named(name).unwrap();
        let tree = numbered(&choices);
        assert_eq!(tree.tokens(), choices.tree_indices(10).unwrap(), "{name}");
        for (node, path) in choices.paths().iter().enumerate() {
            let score: f32 = path.iter().map(|&rank| -1.0 - rank as f32).sum();
            assert_eq!(tree.score(node + 1), score);
        }
    }
}

#[test]
fn what_heads_do_not_have() {
    let choices = Choices::named("eagle1_25").unwrap();
    let heads = |count: usize, ranks: u32| -> Vec<Vec<(u32, f32)>> {
        vec![(0..ranks).map(|token| (token, -1.0)).collect(); count]
    };
    let error =
        |candidates: &[Vec<(u32, f32)>]| choices.fill(0, candidates).unwrap_err().to_string();
    assert_eq!(error(&heads(4, 9)), "the tree is 5 deep; there are 4 heads");
    assert_eq!(
        error(&heads(5, 3)),
        "the tree takes candidate 3 (from 0) of head 0, which has 3"
    );
    assert!(
        choices
            .tree_indices(3)
            .unwrap_err()
            .to_string()
            .contains("candidate 3")
    );
    let mut twice = heads(5, 4);
    twice[0][1].0 = 0;
    assert!(error(&twice).contains("repeats token 0"));
    let fitting = choices.limit(3, 2);
    assert_eq!((fitting.depth(), fitting.nodes()), (3, 1 + 2 + 4 + 5));
    assert!(fitting.fill(0, &heads(3, 2)).is_ok());
}

#[test]
fn broken_files() {
    let error = |json: &str| {
        let error = Choices::from_json(json, Path::new("tree.json")).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }));
        error.to_string()
    };
    assert!(error("{").starts_with("tree.json: not a list of lists of ranks"));
    assert!(error("[[0], [-1]]").contains("-1"));
    assert_eq!(
        error("[[0], [1, 2]]"),
        "tree.json: path 1 [1, 2]: its parent [1] is not there"
    );
    assert_eq!(
        error("[[0], [1], [0]]"),
        "tree.json: path 2 [0]: it is there twice"
    );
    assert_eq!(error("[[0], []]"), "tree.json: path 1 []: it is empty");
    assert_eq!(
        error("[[64]]"),
        "tree.json: path 0 [64]: rank 64 is not below 64"
    );
    let many: Vec<Vec<u32>> = (0..64).map(|rank| vec![rank]).collect();
    assert!(error(&format!("{many:?}")).contains("64 paths; at most 63"));
    assert!(Choices::from_paths(many[..63].to_vec()).is_ok());
    assert!(matches!(
        Choices::from_file(Path::new("no such file")),
        Err(Error::Io { .. })
    ));
}

#[test]
fn files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tree.json");
    std::fs::write(&path, "[[1],[0],[0,0]]").unwrap();
    let choices = Choices::from_file(&path).unwrap();
    assert_eq!(choices.paths(), [vec![0], vec![1], vec![0, 0]]);
    assert_eq!(choices.parents(), [None, Some(0), Some(0), Some(1)]);
}

#[test]
fn routing() {
    for (name, expected) in [
        ("lmsys/vicuna-7b-v1.3", ("vicuna_7b_stage2", true)),
        (
            "FasterDecoding/medusa-1.0-vicuna-13b-v1.5",
            ("vicuna_13b_stage2", true),
        ),
        ("/13b/Vicuna-33B/", ("vicuna_33b_stage2", true)),
        ("vicuna", ("mc_sim_7b_63", false)),
        ("HuggingFaceH4/zephyr-7b-beta", ("zephyr_stage2", true)),
        ("Qwen/Qwen3-8B", ("mc_sim_7b_63", false)),
    ] {
        assert_eq!(Choices::for_model(name), expected, "{name}");
    }
    assert!(
        SHAPES
            .iter()
            .any(|&(name, _)| name == Choices::for_model("x").0)
    );
}

proptest! {
    /// Any closed set of paths, in any order, is read and numbered as its tree.
    #[test]
    fn order_does_not_matter(paths in prop::collection::btree_set(prop::collection::vec(0u32..4, 1..4), 0..12)) {
        let closed: BTreeSet<Vec<u32>> =
            paths.iter().flat_map(|p| (1..=p.len()).map(|n| p[..n].to_vec())).collect();
        let forward = Choices::from_paths(closed.iter().cloned().collect()).unwrap();
        let backward = Choices::from_paths(closed.iter().rev().cloned().collect()).unwrap();
        prop_assert_eq!(&forward, &backward);
        let tree = numbered(&forward);
        prop_assert_eq!(tree.parents(), forward.parents());
        prop_assert_eq!(tree.len(), closed.len() + 1);
        for (node, path) in forward.paths().iter().enumerate() {
            let ranks: Vec<u32> = tree.path(node + 1)[1..].iter().map(|&n| (tree.token(n as usize) - 1) % 10).collect();
            prop_assert_eq!(&ranks, path);
        }
    }
}
