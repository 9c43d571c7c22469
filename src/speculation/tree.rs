use crate::{Error, Result};
use stheno_codegen::plan::{Row, SequenceIndex};

/// Candidate tokens as a tree: what a draft proposes and one call of the target verifies.
///
/// Node 0 is the root: the last sampled token, which the target has not seen yet. A node's parent has a smaller
/// index, siblings hold distinct tokens, and there are at most [`Tree::MAX_NODES`] nodes. A chain is a tree
/// without branches; static and dynamic trees differ only in who builds them.
///
/// Methods that take a node panic if there is no such node, as slices do.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    tokens: Vec<u32>,
    scores: Vec<f32>,
    /// Bit n: node n is an ancestor, or the node itself. Ancestors have smaller indices, so the bits of a mask
    /// in ascending order are the path from the root.
    masks: Vec<u64>,
}

impl Tree {
    /// Most nodes that a tree has, the root among them: a set of nodes is one 64-bit word.
    pub const MAX_NODES: usize = 64;

    /// The root alone.
    pub fn new(root: u32) -> Self {
        Tree {
            tokens: vec![root],
            scores: vec![0.0],
            masks: vec![1],
        }
    }

    /// Adds a child of `parent` and returns its index. `score` is the natural logarithm of the probability that
    /// the draft gives the path from the root to the child.
    ///
    /// # Errors
    /// If the tree is full, there is no such parent, a sibling holds the token, or the score is not finite.
    pub fn push(&mut self, parent: usize, token: u32, score: f32) -> Result<usize> {
        let node = self.len();
        let fail = |reason: String| Err(Error::Invalid(format!("tree node {node}{reason}")));
        if node == Self::MAX_NODES {
            return fail(format!(": a tree has at most {} nodes", Self::MAX_NODES));
        }
        let Some(&ancestors) = self.masks.get(parent) else {
            return fail(format!(": its parent {parent} is no earlier node"));
        };
        if let Some(sibling) = self.child(parent, token) {
            return fail(format!(" repeats token {token} of its sibling {sibling}"));
        }
        if !score.is_finite() {
            return fail(format!(" has score {score}; it must be finite"));
        }
        self.tokens.push(token);
        self.scores.push(score);
        self.masks.push(ancestors | 1 << node);
        Ok(node)
    }

    /// A chain of (token, score of the path to it) below the root.
    ///
    /// # Errors
    /// If the chain is longer than a tree, or a score is not finite.
    pub fn chain(root: u32, nodes: &[(u32, f32)]) -> Result<Self> {
        let mut tree = Tree::new(root);
        for (parent, &(token, score)) in nodes.iter().enumerate() {
            tree.push(parent, token, score)?;
        }
        Ok(tree)
    }

    /// A tree out of arrays with one entry a node; the root comes first, without a parent, with score 0.
    ///
    /// # Errors
    /// If the arrays differ in length, hold no root, or a node breaks a rule of [`Tree::push`].
    pub fn from_parts(tokens: &[u32], parents: &[Option<u32>], scores: &[f32]) -> Result<Self> {
        if tokens.len() != parents.len() || tokens.len() != scores.len() {
            return Err(Error::Invalid(format!(
                "a tree of {} tokens, {} parents and {} scores; there must be as many of each",
                tokens.len(),
                parents.len(),
                scores.len()
            )));
        }
        let (&[root, ..], &[None, ..], &[0.0, ..]) = (tokens, parents, scores) else {
            return Err(Error::Invalid(
                "a tree starts with its root, which has no parent and score 0".into(),
            ));
        };
        let mut tree = Tree::new(root);
        for (node, ((&token, &parent), &score)) in
            tokens.iter().zip(parents).zip(scores).enumerate().skip(1)
        {
            let Some(parent) = parent else {
                return Err(Error::Invalid(format!(
                    "tree node {node} has no parent; only the root has none"
                )));
            };
            tree.push(parent as usize, token, score)?;
        }
        Ok(tree)
    }

    /// Number of nodes, at least 1.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a tree is never empty: it has a root"
    )]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Token of a node.
    pub fn token(&self, node: usize) -> u32 {
        self.tokens[node]
    }

    /// Tokens of all nodes.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Parent of a node; the root has none.
    pub fn parent(&self, node: usize) -> Option<usize> {
        let ancestors = self.masks[node] & !(1 << node);
        ancestors.checked_ilog2().map(|parent| parent as usize)
    }

    /// Parents of all nodes.
    pub fn parents(&self) -> Vec<Option<u32>> {
        let parent = |node| self.parent(node).map(|parent| parent as u32);
        (0..self.len()).map(parent).collect()
    }

    /// Number of nodes between the root and a node, itself among them; 0 for the root.
    pub fn depth(&self, node: usize) -> u32 {
        self.masks[node].count_ones() - 1
    }

    /// Depth of the deepest node.
    pub fn max_depth(&self) -> u32 {
        (0..self.len())
            .map(|node| self.depth(node))
            .max()
            .unwrap_or(0)
    }

    /// Natural logarithm of the probability that the draft gives the path to a node.
    pub fn score(&self, node: usize) -> f32 {
        self.scores[node]
    }

    /// The nodes that a node sees: bit n is set if node n is an ancestor, or the node itself.
    pub fn mask(&self, node: usize) -> u64 {
        self.masks[node]
    }

    /// Children of a node, in order.
    pub fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let path = self.masks[node];
        (node + 1..self.len()).filter(move |&child| self.masks[child] == path | 1 << child)
    }

    /// The child of a node that holds `token`.
    pub fn child(&self, node: usize, token: u32) -> Option<usize> {
        self.children(node)
            .find(|&child| self.tokens[child] == token)
    }

    /// The nodes from the root to a node, both among them.
    pub fn path(&self, node: usize) -> Vec<u32> {
        let mask = self.masks[node];
        (0..=node as u32)
            .filter(|bit| mask >> bit & 1 == 1)
            .collect()
    }

    /// The best `nodes` nodes by (score, largest first; index), in their order; the root always is among them.
    ///
    /// A node counts with no more than its parent's score, so that ancestors of what stays stay too, whatever
    /// rounding did to the scores.
    pub fn retain_top(&self, nodes: usize) -> Tree {
        let mut bounded = self.scores.clone();
        for node in 1..self.len() {
            if let Some(parent) = self.parent(node) {
                bounded[node] = bounded[node].min(bounded[parent]);
            }
        }
        let mut order: Vec<usize> = (1..self.len()).collect();
        // A stable sort: equals stay in order of their index.
        order.sort_by(|&a, &b| bounded[b].total_cmp(&bounded[a]));
        order.truncate(nodes.saturating_sub(1));
        let kept = order.iter().fold(1u64, |kept, node| kept | 1 << node);
        self.select(kept)
    }

    /// The nodes down to depth `levels`.
    pub fn truncate_depth(&self, levels: u32) -> Tree {
        let kept = (0..self.len()).filter(|&node| self.depth(node) <= levels);
        self.select(kept.fold(0, |kept, node| kept | 1 << node))
    }

    /// The nodes of a set that holds the ancestors of its nodes.
    fn select(&self, kept: u64) -> Tree {
        let nodes = || (0..self.len()).filter(|&node| kept >> node & 1 == 1);
        // Indices shrink by the number of nodes dropped before: the bits of a mask move together.
        let compress = |mask: u64| {
            nodes()
                .enumerate()
                .fold(0, |out, (new, old)| out | (mask >> old & 1) << new)
        };
        Tree {
            tokens: nodes().map(|node| self.tokens[node]).collect(),
            scores: nodes().map(|node| self.scores[node]).collect(),
            masks: nodes().map(|node| compress(self.masks[node])).collect(),
        }
    }

    /// A row for each leaf, [leaves, max_depth + 1]: the nodes from the root to it, padded with -1; deepest
    /// leaves first, equally deep ones with the largest path first, as Medusa orders them.
    pub fn retrieve_indices(&self) -> Vec<Vec<i32>> {
        let inner = (1..self.len()).fold(0u64, |inner, node| {
            inner | (self.masks[node] & !(1 << node))
        });
        let leaves = (0..self.len()).filter(|leaf| inner >> leaf & 1 == 0);
        let mut paths: Vec<Vec<u32>> = leaves.map(|leaf| self.path(leaf)).collect();
        paths.sort_by(|a, b| (b.len(), b).cmp(&(a.len(), a)));
        let width = self.max_depth() as usize + 1;
        let row = |path: Vec<u32>| {
            let mut row: Vec<i32> = path.into_iter().map(|node| node as i32).collect();
            row.resize(width, -1);
            row
        };
        paths.into_iter().map(row).collect()
    }

    /// The nodes as rows of one call after `position` committed positions of `sequence`, all with outputs.
    /// Row and node have the same index.
    pub fn rows(&self, sequence: SequenceIndex, position: u32) -> Vec<Row> {
        let row = |node: usize| Row {
            token: self.tokens[node],
            sequence,
            // A sum past u32 is past every context, which executors refuse.
            position: position.saturating_add(self.depth(node)),
            parent: self.parent(node).map(|parent| parent as u32),
            delta: None,
            output: true,
        };
        (0..self.len()).map(row).collect()
    }
}

#[cfg(test)]
mod tests;
