use super::*;
use proptest::prelude::*;

prop_compose! {
    /// Any tree: a parent and a probability for each node; scores fall along paths, with many ties.
    fn any_tree()(
        root in 0u32..1000,
        nodes in prop::collection::vec((any::<prop::sample::Index>(), 0u32..5, 0u32..4), 0..80),
    ) -> Tree {
        let mut tree = Tree::new(root);
        for (parent, token, cost) in nodes {
            let parent = parent.index(tree.len());
            let score = tree.score(parent) - cost as f32 * 0.5;
            // Siblings with the same token, and nodes past the limit, are refused.
            let _ = tree.push(parent, token, score);
        }
        tree
    }
}

/// Ancestors by following parents.
fn ancestors(parents: &[Option<u32>], node: usize) -> Vec<usize> {
    let mut path = vec![node];
    while let Some(parent) = parents[path[path.len() - 1]] {
        path.push(parent as usize);
    }
    path.reverse();
    path
}

proptest! {
    #[test]
    fn masks_and_paths(tree in any_tree()) {
        prop_assert!(tree.len() <= Tree::MAX_NODES);
        let parents = tree.parents();
        for node in 0..tree.len() {
            let path = ancestors(&parents, node);
            let mask = path.iter().fold(0u64, |mask, node| mask | 1 << node);
            prop_assert_eq!(tree.mask(node), mask);
            prop_assert_eq!(tree.depth(node) as usize, path.len() - 1);
            prop_assert_eq!(tree.path(node), path.iter().map(|&n| n as u32).collect::<Vec<_>>());
            let children: Vec<usize> = (0..tree.len()).filter(|&c| tree.parent(c) == Some(node)).collect();
            prop_assert_eq!(tree.children(node).collect::<Vec<_>>(), &children[..]);
            for token in 0..5 {
                let child = children.iter().copied().find(|&child| tree.token(child) == token);
                prop_assert_eq!(tree.child(node, token), child);
            }
        }
        let scores: Vec<f32> = (0..tree.len()).map(|node| tree.score(node)).collect();
        prop_assert_eq!(Tree::from_parts(tree.tokens(), &parents, &scores).unwrap(), tree);
    }

    /// The rules of `Row`, as executors check them.
    #[test]
    fn rows_are_valid(tree in any_tree(), position in 0u32..5000) {
        let rows = tree.rows(SequenceIndex(3), position);
        prop_assert_eq!(rows.len(), tree.len());
        for (i, row) in rows.iter().enumerate() {
            prop_assert_eq!(row.sequence, SequenceIndex(3));
            prop_assert!(row.output && row.delta.is_none());
            match row.parent {
                None => { prop_assert_eq!(i, 0); prop_assert_eq!(row.position, position); }
                Some(parent) => {
                    prop_assert!((parent as usize) < i);
                    prop_assert_eq!(row.position, rows[parent as usize].position + 1);
                }
            }
        }
    }

    #[test]
    fn retrieve_rows(tree in any_tree()) {
        let rows = tree.retrieve_indices();
        let leaves = (0..tree.len()).filter(|&n| tree.children(n).next().is_none()).count();
        prop_assert_eq!(rows.len(), leaves);
        let key = |row: &Vec<i32>| (row.iter().filter(|&&n| n >= 0).count(), row.clone());
        prop_assert!(rows.windows(2).all(|pair| key(&pair[0]) > key(&pair[1])));
        for row in &rows {
            prop_assert_eq!(row.len(), tree.max_depth() as usize + 1);
            let nodes: Vec<u32> = row.iter().filter_map(|&n| u32::try_from(n).ok()).collect();
            prop_assert!(row[nodes.len()..].iter().all(|&n| n == -1));
            let leaf = nodes[nodes.len() - 1] as usize;
            prop_assert_eq!(tree.path(leaf), nodes);
            prop_assert!(tree.children(leaf).next().is_none());
        }
    }

    #[test]
    fn best_nodes(tree in any_tree(), nodes in 0usize..70) {
        let top = tree.retain_top(nodes);
        prop_assert_eq!(top.len(), nodes.clamp(1, tree.len()));
        let mut order: Vec<usize> = (0..tree.len()).collect();
        order.sort_by(|&a, &b| tree.score(b).total_cmp(&tree.score(a)).then(a.cmp(&b)));
        order.truncate(nodes.max(1));
        order.sort();
        let expected: Vec<(u32, f32, Option<usize>)> = order
            .iter()
            .map(|&n| {
                let parent = tree.parent(n).map(|p| order.binary_search(&p).unwrap());
                (tree.token(n), tree.score(n), parent)
            })
            .collect();
        let got: Vec<_> = (0..top.len()).map(|n| (top.token(n), top.score(n), top.parent(n))).collect();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn shallow_nodes(tree in any_tree(), levels in 0u32..10) {
        let cut = tree.truncate_depth(levels);
        let kept: Vec<usize> = (0..tree.len()).filter(|&n| tree.depth(n) <= levels).collect();
        prop_assert_eq!(cut.len(), kept.len());
        for (new, &old) in kept.iter().enumerate() {
            prop_assert_eq!(cut.token(new), tree.token(old));
            prop_assert_eq!(cut.depth(new), tree.depth(old));
            prop_assert_eq!(cut.parent(new).map(|p| kept[p]), tree.parent(old));
        }
    }
}

#[test]
fn a_chain() {
    let tree = Tree::chain(9, &[(8, -0.5), (8, -1.0), (7, -1.0)]).unwrap();
    assert_eq!(tree.parents(), [None, Some(0), Some(1), Some(2)]);
    assert_eq!(tree.mask(3), 0b1111);
    assert_eq!(tree.max_depth(), 3);
    assert_eq!(tree.retrieve_indices(), [[0, 1, 2, 3]]);
    assert_eq!(Tree::new(1).retrieve_indices(), [[0]]);
    assert!(Tree::chain(0, &[(0, 0.0); 63]).is_ok());
    assert!(Tree::chain(0, &[(0, 0.0); 64]).is_err());
}

#[test]
fn a_child_above_its_parent_does_not_outlive_it() {
    let tree = Tree::from_parts(
        &[0, 1, 2, 3],
        &[None, Some(0), Some(1), Some(0)],
        &[0.0, -2.0, -0.1, -1.0],
    )
    .unwrap();
    assert_eq!(tree.retain_top(2).tokens(), [0, 3]);
    assert_eq!(tree.retain_top(3).tokens(), [0, 1, 3]);
}

#[test]
fn refusals() {
    let message = |tokens: &[u32], parents: &[Option<u32>], scores: &[f32]| {
        let error = Tree::from_parts(tokens, parents, scores).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)));
        error.to_string()
    };
    assert!(message(&[1, 2], &[None], &[0.0]).contains("2 tokens, 1 parents and 1 scores"));
    assert!(message(&[], &[], &[]).contains("root"));
    assert!(message(&[1], &[Some(0)], &[0.0]).contains("root"));
    assert!(message(&[1], &[None], &[-1.0]).contains("score 0"));
    assert!(message(&[1, 2], &[None, None], &[0.0, -1.0]).contains("node 1 has no parent"));
    assert!(message(&[1, 2], &[None, Some(1)], &[0.0, -1.0]).contains("parent 1 is no earlier"));
    let twice = message(&[1, 2, 2], &[None, Some(0), Some(0)], &[0.0, -1.0, -1.0]);
    assert_eq!(twice, "tree node 2 repeats token 2 of its sibling 1");
    assert!(message(&[1, 2], &[None, Some(0)], &[0.0, f32::NAN]).contains("finite"));
}
