use super::{Tree, sampling::math};
use crate::{Error, Result};

/// A candidate that the draft has named.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record {
    /// The candidate.
    pub token: u32,
    /// Record of the node that it follows; `None` is the root.
    pub parent: Option<u32>,
    /// Natural logarithm of the probability of the path, summed in f32 from the root down.
    pub score: f32,
    /// Number of tokens from below the root to here, from 1.
    pub depth: u32,
}

/// A node that the draft runs next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrontierNode {
    /// Its record.
    pub record: u32,
    /// Token to feed.
    pub token: u32,
    /// Position in the former frontier of the node that it follows, whose output the draft takes as hidden state;
    /// `None` is the root.
    pub parent: Option<u32>,
    /// Natural logarithm of the probability of the path.
    pub score: f32,
    /// Number of tokens from below the root to here, from 1.
    pub depth: u32,
}

/// Grows EAGLE-2's dynamic tree (Li et al., 2024): level by level the draft runs the `topk` most probable nodes,
/// every candidate is recorded, and the most probable records become the tree.
///
/// A log-probability above 0 is rounding and counts as 0, so no score is above its parent's; ties go to the record
/// that was there first, and a parent always was. So what [`DynamicTree::finish`] takes holds all ancestors.
#[derive(Debug, Clone)]
pub struct DynamicTree {
    root: u32,
    topk: usize,
    records: Vec<Record>,
    frontier: Vec<FrontierNode>,
    levels: u32,
}

impl DynamicTree {
    /// The root, with nothing below it; `topk` bounds children of a node and nodes of a frontier.
    pub fn new(root: u32, topk: usize) -> Self {
        DynamicTree {
            root,
            topk,
            records: Vec::new(),
            frontier: Vec::new(),
            levels: 0,
        }
    }

    /// The first level: (token, log-probability) of the root's children, in f32, best first.
    ///
    /// # Errors
    /// If there is a level already, more than `topk` children, a token twice, or a log-probability is not finite.
    pub fn seed(&mut self, children: &[(u32, f32)]) -> Result<()> {
        if self.levels > 0 {
            return Err(Error::Invalid(
                "a dynamic tree has one first level; expand it".into(),
            ));
        }
        self.grow(&[None], &[children])
    }

    /// The next level: a list as in [`DynamicTree::seed`] for each node of the frontier. The best `topk` of these
    /// candidates by (score, record) are the new frontier, in this order.
    ///
    /// # Errors
    /// If there is not one list a node, or as [`DynamicTree::seed`].
    pub fn expand(&mut self, children: &[Vec<(u32, f32)>]) -> Result<()> {
        if self.levels == 0 || children.len() != self.frontier.len() {
            return Err(Error::Invalid(format!(
                "{} lists of children for the {} nodes of a frontier",
                children.len(),
                self.frontier.len()
            )));
        }
        let parents: Vec<Option<u32>> = (0..children.len() as u32).map(Some).collect();
        let children: Vec<&[(u32, f32)]> = children.iter().map(Vec::as_slice).collect();
        self.grow(&parents, &children)
    }

    /// Records the children of nodes of the frontier, or of the root, and takes the next frontier.
    fn grow(&mut self, parents: &[Option<u32>], children: &[&[(u32, f32)]]) -> Result<()> {
        for list in children {
            self.check(list)?;
        }
        let depth = self.levels + 1;
        let mut level = Vec::new();
        for (&parent, &list) in parents.iter().zip(children) {
            let node = parent.and_then(|parent| self.frontier.get(parent as usize));
            let (above, base) = node.map_or((None, 0.0), |node| (Some(node.record), node.score));
            for &(token, logp) in list {
                // Sums stay finite, as trees want them.
                let score = (base + logp.min(0.0)).max(f32::MIN);
                level.push(FrontierNode {
                    record: self.records.len() as u32,
                    token,
                    parent,
                    score,
                    depth,
                });
                self.records.push(Record {
                    token,
                    parent: above,
                    score,
                    depth,
                });
            }
        }
        // A stable sort: equals stay in order of their record.
        level.sort_by(|a, b| b.score.total_cmp(&a.score));
        level.truncate(self.topk);
        self.frontier = level;
        self.levels = depth;
        Ok(())
    }

    fn check(&self, children: &[(u32, f32)]) -> Result<()> {
        if children.len() > self.topk {
            return Err(Error::Invalid(format!(
                "{} children of a node of a dynamic tree; at most {} are possible",
                children.len(),
                self.topk
            )));
        }
        for (index, &(token, logp)) in children.iter().enumerate() {
            if !logp.is_finite() {
                return Err(Error::Invalid(format!(
                    "the draft gives token {token} the log-probability {logp}; it must be finite"
                )));
            }
            if children[..index].iter().any(|&(other, _)| other == token) {
                return Err(Error::Invalid(format!(
                    "the draft names token {token} twice below one node"
                )));
            }
        }
        Ok(())
    }

    /// The nodes that the draft runs next, best first.
    pub fn frontier(&self) -> &[FrontierNode] {
        &self.frontier
    }

    /// Number of levels recorded: the depth of the deepest record.
    pub fn levels(&self) -> u32 {
        self.levels
    }

    /// All candidates, level by level.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The indices of the best `count` records by (score, largest first; index), best first.
    fn best(&self, count: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.records.len() as u32).collect();
        let score = |record: u32| self.records[record as usize].score;
        let by_score = |a: &u32, b: &u32| score(*b).total_cmp(&score(*a)).then(a.cmp(b));
        if count < order.len() {
            order.select_nth_unstable_by(count, by_score);
            order.truncate(count);
        }
        order.sort_unstable_by(by_score);
        order
    }

    /// Sum of the probabilities of the paths of the best `nodes` - 1 records: how many tokens of a tree of `nodes`
    /// nodes the draft expects to be accepted.
    pub fn best_sum(&self, nodes: usize) -> f32 {
        let best = self.best(nodes.saturating_sub(1)).into_iter();
        best.map(|record| math::exp(self.records[record as usize].score))
            .sum()
    }

    /// The root and the best `nodes` - 1 records by (score, largest first; index), in order of records; fewer if
    /// there are fewer.
    ///
    /// # Errors
    /// If `nodes` is 0 or above [`Tree::MAX_NODES`].
    pub fn finish(&self, nodes: usize) -> Result<Tree> {
        if nodes == 0 || nodes > Tree::MAX_NODES {
            return Err(Error::Invalid(format!(
                "a tree of {nodes} nodes; 1 to {} are possible",
                Tree::MAX_NODES
            )));
        }
        let mut kept = self.best(nodes - 1);
        kept.sort_unstable();
        let mut tree = Tree::new(self.root);
        for &index in &kept {
            let record = self.records[index as usize];
            let parent = match record.parent {
                None => 0,
                // Always found: the parent is at least as good, and was there first.
                Some(parent) => kept.binary_search(&parent).map_or(usize::MAX, |at| at + 1),
            };
            tree.push(parent, record.token, record.score)?;
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Log-probabilities with many ties, 0 among them, and some rounding above 0.
    fn logp() -> impl Strategy<Value = f32> {
        prop::sample::select(vec![0.0, 0.0, -0.5, -0.5, -1.0, 1e-7, -0.0])
    }

    fn lists() -> impl Strategy<Value = Vec<Vec<Vec<f32>>>> {
        let list = prop::collection::vec(logp(), 4);
        prop::collection::vec(prop::collection::vec(list, 4), 1..5)
    }

    fn children(logps: &[f32], topk: usize) -> Vec<(u32, f32)> {
        (10..).zip(logps.iter().copied()).take(topk).collect()
    }

    fn grown(topk: usize, levels: &[Vec<Vec<f32>>]) -> DynamicTree {
        let mut dynamic = DynamicTree::new(7, topk);
        dynamic.seed(&children(&levels[0][0], topk)).unwrap();
        for level in &levels[1..] {
            let count = dynamic.frontier().len();
            let lists: Vec<_> = level[..count].iter().map(|l| children(l, topk)).collect();
            dynamic.expand(&lists).unwrap();
        }
        dynamic
    }

    proptest! {
        #[test]
        fn closed_under_ancestors(topk in 1usize..5, levels in lists(), nodes in 1usize..=64) {
            let dynamic = grown(topk, &levels);
            let records = dynamic.records();
            prop_assert_eq!(records.len(), topk + (levels.len() - 1) * topk * topk);
            let tree = dynamic.finish(nodes).unwrap();
            prop_assert_eq!(tree.len(), nodes.min(records.len() + 1));

            // By its definition: a full sort, then order of records.
            let mut order: Vec<usize> = (0..records.len()).collect();
            order.sort_by(|&a, &b| records[b].score.partial_cmp(&records[a].score).unwrap().then(a.cmp(&b)));
            order.truncate(nodes - 1);
            let sum: f32 = order.iter().map(|&r| math::exp(records[r].score)).sum();
            prop_assert_eq!(dynamic.best_sum(nodes), sum);
            order.sort();
            for (node, &r) in order.iter().enumerate() {
                let record = records[r];
                let parent = record.parent.map_or(0, |parent| {
                    1 + order.iter().position(|&other| other == parent as usize).expect("an ancestor is missing")
                });
                prop_assert_eq!(tree.parent(node + 1), Some(parent));
                prop_assert_eq!(tree.token(node + 1), record.token);
                prop_assert_eq!(tree.score(node + 1).to_bits(), record.score.to_bits());
                prop_assert_eq!(tree.depth(node + 1), record.depth);
            }
        }

        #[test]
        fn frontiers(topk in 1usize..5, levels in lists()) {
            let mut before: Vec<FrontierNode> = Vec::new();
            for depth in 1..=levels.len() {
                let dynamic = grown(topk, &levels[..depth]);
                let records = dynamic.records();
                let frontier = dynamic.frontier();
                prop_assert_eq!(dynamic.levels() as usize, depth);
                let mut level: Vec<u32> =
                    (0..records.len() as u32).filter(|&r| records[r as usize].depth as usize == depth).collect();
                level.sort_by(|&a, &b| {
                    let (x, y) = (records[a as usize].score, records[b as usize].score);
                    y.partial_cmp(&x).unwrap().then(a.cmp(&b))
                });
                level.truncate(topk);
                prop_assert_eq!(frontier.iter().map(|n| n.record).collect::<Vec<_>>(), level);
                for node in frontier {
                    let record = records[node.record as usize];
                    prop_assert_eq!((record.token, record.depth), (node.token, node.depth));
                    prop_assert_eq!(record.score.to_bits(), node.score.to_bits());
                    prop_assert_eq!(node.parent.map(|p| before[p as usize].record), record.parent);
                    let above = node.parent.map_or(0.0, |p| before[p as usize].score);
                    prop_assert!(node.score <= above);
                }
                before = frontier.to_vec();
            }
        }
    }

    #[test]
    fn a_small_tree() {
        let mut dynamic = DynamicTree::new(1, 2);
        dynamic.seed(&[(5, -0.25), (6, -2.0)]).unwrap();
        dynamic
            .expand(&[vec![(7, -0.5), (8, -3.0)], vec![(7, -0.125), (9, -4.0)]])
            .unwrap();
        let frontier: Vec<_> = dynamic
            .frontier()
            .iter()
            .map(|n| (n.record, n.parent))
            .collect();
        assert_eq!(frontier, [(2, Some(0)), (4, Some(1))]);
        let tree = dynamic.finish(5).unwrap();
        assert_eq!(tree.tokens(), [1, 5, 6, 7, 7]);
        assert_eq!(tree.parents(), [None, Some(0), Some(0), Some(1), Some(2)]);
        assert_eq!(tree.score(4), -2.125);
        assert_eq!(dynamic.finish(1).unwrap(), Tree::new(1));
    }

    #[test]
    fn refusals() {
        let mut dynamic = DynamicTree::new(1, 2);
        assert!(dynamic.expand(&[]).is_err());
        assert!(dynamic.seed(&[(1, 0.0), (2, 0.0), (3, 0.0)]).is_err());
        assert!(dynamic.seed(&[(1, f32::NAN)]).is_err());
        assert!(dynamic.seed(&[(1, f32::NEG_INFINITY)]).is_err());
        assert!(dynamic.seed(&[(1, -1.0), (1, -2.0)]).is_err());
        assert!(dynamic.records().is_empty());
        dynamic.seed(&[(1, -1.0)]).unwrap();
        assert!(dynamic.seed(&[(1, -1.0)]).is_err());
        assert!(dynamic.expand(&[]).is_err());
        assert!(dynamic.finish(0).is_err() && dynamic.finish(65).is_err());
        dynamic.expand(&[vec![(2, f32::MIN)]]).unwrap();
        dynamic.expand(&[vec![(2, f32::MIN)]]).unwrap();
        assert_eq!(dynamic.finish(64).unwrap().score(3), f32::MIN);
    }
}
