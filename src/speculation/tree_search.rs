use super::{Choices, Tree};
use crate::{Error, Result};

/// Finds the shape of a static tree from measured accuracies, as Medusa does (Cai et al., 2024): greedily, the path
/// with the largest product of accuracies next.
///
/// `accuracy[head][rank]` is the fraction of positions at which candidate `rank` (from 0) of `head` was the token to
/// come. Candidates of one head exclude each other, and heads count as independent, so a tree is expected to advance
/// 1 + the sum over its nodes of the product of accuracies along the path.
///
/// Where accuracy falls with rank, as it does for any draft worth the name, no tree of as many nodes advances more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeSearch {
    /// Most nodes, the root among them; at most [`Tree::MAX_NODES`].
    pub nodes: usize,
    /// Most children of a node.
    pub max_children: usize,
    /// Most nodes between the root and a leaf, the leaf among them.
    pub max_depth: usize,
}

impl Default for TreeSearch {
    /// Medusa's limits.
    fn default() -> Self {
        TreeSearch {
            nodes: Tree::MAX_NODES,
            max_children: 10,
            max_depth: 5,
        }
    }
}

impl TreeSearch {
    /// The largest tree within the limits; paths that never were accepted are left out. Equal products go to the
    /// shorter path, then to smaller ranks.
    ///
    /// # Errors
    /// If an accuracy is not within 0 and 1, or `nodes` is 0 or too many.
    pub fn run(&self, accuracy: &[Vec<f64>]) -> Result<Choices> {
        let paths = self.order(accuracy)?;
        Choices::from_paths(paths.into_iter().map(|path| path.ranks).collect())
    }

    /// The tree that advances most for its price: `cost(nodes)` is the time of a round whose tree has this many
    /// nodes, the root among them, in any unit. Of equal trees the smaller wins; where no tree pays, it is the root
    /// alone.
    ///
    /// # Errors
    /// As [`TreeSearch::run`], or if a cost is not a positive number.
    pub fn run_with_cost(
        &self,
        accuracy: &[Vec<f64>],
        cost: impl Fn(usize) -> f64,
    ) -> Result<Choices> {
        let mut paths = self.order(accuracy)?;
        let mut advance = 1.0;
        let mut best = (0.0, 0);
        for count in 0..=paths.len() {
            if count > 0 {
                advance += paths[count - 1].product;
            }
            let price = cost(count + 1);
            if !(price > 0.0 && price.is_finite()) {
                return Err(Error::Invalid(format!(
                    "a round of {} nodes costs {price}; it must be a positive number",
                    count + 1
                )));
            }
            if advance / price > best.0 {
                best = (advance / price, count);
            }
        }
        paths.truncate(best.1);
        Choices::from_paths(paths.into_iter().map(|path| path.ranks).collect())
    }

    /// Paths in the order in which the greedy search adds them.
    fn order(&self, accuracy: &[Vec<f64>]) -> Result<Vec<Scored>> {
        check(accuracy)?;
        if self.nodes == 0 || self.nodes > Tree::MAX_NODES {
            return Err(Error::Invalid(format!(
                "a search for a tree of {} nodes; 1 to {} are possible",
                self.nodes,
                Tree::MAX_NODES
            )));
        }
        let max_children = self.max_children.min(Choices::MAX_RANK as usize);
        let scored = |above: &[u32], base: f64, rank: u32| {
            if above.len() >= self.max_depth || rank as usize >= max_children {
                return None;
            }
            let product = base * accuracy.get(above.len())?.get(rank as usize)?;
            let mut ranks = above.to_vec();
            ranks.push(rank);
            (product > 0.0).then_some(Scored {
                ranks,
                base,
                product,
            })
        };
        let mut neighbours: Vec<Scored> = scored(&[], 1.0, 0).into_iter().collect();
        let mut order: Vec<Scored> = Vec::new();
        while order.len() + 1 < self.nodes {
            let best = (0..neighbours.len()).reduce(|best, other| {
                if neighbours[other].before(&neighbours[best]) {
                    other
                } else {
                    best
                }
            });
            let Some(best) = best else { break };
            let path = neighbours.swap_remove(best);
            neighbours.extend(scored(&path.ranks, path.product, 0));
            if let Some((&rank, above)) = path.ranks.split_last() {
                neighbours.extend(scored(above, path.base, rank + 1));
            }
            order.push(path);
        }
        Ok(order)
    }
}

/// A path and what it is worth.
#[derive(Debug)]
struct Scored {
    ranks: Vec<u32>,
    /// Product of accuracies down to the parent.
    base: f64,
    /// Product of accuracies down to here.
    product: f64,
}

impl Scored {
    fn before(&self, other: &Scored) -> bool {
        let key = |path: &Scored| (path.ranks.len(), path.ranks.clone());
        self.product > other.product || self.product == other.product && key(self) < key(other)
    }
}

/// Tokens that a round with this tree is expected to advance: 1 + the sum of the products along its paths. A rank or
/// depth past the table counts 0.
///
/// # Errors
/// If an accuracy is not within 0 and 1.
pub fn expected_accept_len(accuracy: &[Vec<f64>], choices: &Choices) -> Result<f64> {
    check(accuracy)?;
    let product = |path: &Vec<u32>| -> f64 {
        let factors = path.iter().enumerate().map(|(depth, &rank)| {
            let head = accuracy.get(depth);
            head.and_then(|head| head.get(rank as usize))
                .unwrap_or(&0.0)
        });
        factors.product()
    };
    Ok(1.0 + choices.paths().iter().map(product).sum::<f64>())
}

fn check(accuracy: &[Vec<f64>]) -> Result<()> {
    for (head, ranks) in accuracy.iter().enumerate() {
        for (rank, value) in ranks.iter().enumerate() {
            if !(0.0..=1.0).contains(value) {
                return Err(Error::Invalid(format!(
                    "accuracy of head {head}, rank {rank} is {value}; it must be between 0 and 1"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Accuracies that fall with the rank.
    fn table() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let head = prop::collection::vec(0u32..5, 0..=3).prop_map(|mut ranks| {
            ranks.sort_unstable_by(|a, b| b.cmp(a));
            ranks.into_iter().map(|a| f64::from(a) / 8.0).collect()
        });
        prop::collection::vec(head, 0..=2)
    }

    /// Every tree of two levels of up to three ranks: bit i of a number is path i.
    fn every_tree() -> Vec<Choices> {
        let mut paths: Vec<Vec<u32>> = (0..3).map(|rank| vec![rank]).collect();
        for parent in 0..3 {
            paths.extend((0..3).map(|rank| vec![parent, rank]));
        }
        (0..1u32 << paths.len())
            .filter_map(|set| {
                let chosen = (0..paths.len()).filter(|i| set >> i & 1 == 1);
                Choices::from_paths(chosen.map(|i| paths[i].clone()).collect()).ok()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn as_good_as_any(
            accuracy in table(),
            nodes in 1usize..=9,
            max_children in 1usize..4,
            max_depth in 0usize..3,
            price in 0.01f64..0.6,
        ) {
            let search = TreeSearch { nodes, max_children, max_depth };
            let worth = |tree: &Choices| expected_accept_len(&accuracy, tree).unwrap();
            let fits = |tree: &&Choices| {
                tree.nodes() <= nodes
                    && tree.depth() as usize <= max_depth
                    && tree.paths().iter().flatten().all(|&rank| (rank as usize) < max_children)
            };
            let trees = every_tree();
            let fitting: Vec<&Choices> = trees.iter().filter(fits).collect();
            let found = search.run(&accuracy).unwrap();
            prop_assert!(fits(&&found));
            let best = fitting.iter().map(|tree| worth(tree)).fold(0.0, f64::max);
            prop_assert!((worth(&found) - best).abs() < 1e-12, "{found:?}: {best}");

            // A cost with a step, as rows of a kernel's tile have.
            let cost = |nodes: usize| 1.0 + price * nodes.div_ceil(3) as f64;
            let rate = |tree: &Choices| worth(tree) / cost(tree.nodes());
            let found = search.run_with_cost(&accuracy, cost).unwrap();
            prop_assert!(fits(&&found));
            let best = fitting.iter().map(|tree| rate(tree)).fold(0.0, f64::max);
            prop_assert!((rate(&found) - best).abs() < 1e-12, "{found:?}: {best}");
        }
    }

    #[test]
    fn order_and_limits() {
        let accuracy = vec![vec![0.5, 0.25, 0.1], vec![0.5, 0.2]];
        let paths = |search: TreeSearch| search.run(&accuracy).unwrap().paths().to_vec();
        let search = TreeSearch {
            nodes: 4,
            ..Default::default()
        };
        // [1] and [0, 0] are worth as much: the shorter comes first.
        assert_eq!(paths(search), [vec![0], vec![1], vec![0, 0]]);
        let two = TreeSearch { nodes: 3, ..search };
        assert_eq!(paths(two), [vec![0], vec![1]]);
        assert_eq!(paths(TreeSearch::default()).len(), 3 + 6);
        let flat = TreeSearch {
            max_depth: 1,
            ..Default::default()
        };
        assert_eq!(paths(flat).len(), 3);
        let chain = TreeSearch {
            max_children: 1,
            ..Default::default()
        };
        assert_eq!(paths(chain), [vec![0], vec![0, 0]]);
        let choices = chain.run(&accuracy).unwrap();
        assert_eq!(expected_accept_len(&accuracy, &choices).unwrap(), 1.75);
    }

    #[test]
    fn nothing_pays() {
        let accuracy = vec![vec![0.5]];
        let choices = TreeSearch::default()
            .run_with_cost(&accuracy, |nodes| nodes as f64)
            .unwrap();
        assert_eq!(choices.nodes(), 1);
    }

    #[test]
    fn refusals() {
        let search = TreeSearch::default();
        let error = search.run(&[vec![0.5], vec![0.1, 1.5]]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("accuracy of head 1, rank 1 is 1.5")
        );
        assert!(search.run(&[vec![f64::NAN]]).is_err());
        let large = TreeSearch {
            nodes: 65,
            ..search
        };
        assert!(large.run(&[]).is_err());
        assert!(search.run_with_cost(&[], |_| 0.0).is_err());
        assert!(search.run_with_cost(&[], |_| f64::NAN).is_err());
    }
}
