use super::{Tree, TreeShape};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// A tree of fixed shape: paths of ranks, as Medusa's and EAGLE-1's trees are written.
///
/// Path (a1, ..., ad) is the node of depth d whose token is the a_d-th best candidate (from 0) of depth d and whose
/// parent is (a1, ..., a(d-1)). Nodes are numbered 0 for the root, then in the order of paths by (length,
/// lexicographic).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// Sorted by (length, lexicographic); the parent of each is there, or is the root.
    paths: Vec<Vec<u32>>,
}

macro_rules! named {
    ($($name:literal),* $(,)?) => {
        /// Names and texts of the trees that come along.
        const NAMED: &[(&str, &str)] = &[$(($name, include_str!(concat!("choices/", $name, ".txt")))),*];
    };
}

named!(
    "mc_sim_7b_63",
    "vicuna_7b_stage1",
    "vicuna_7b_stage1_ablation",
    "vicuna_7b_stage2",
    "vicuna_13b_stage1",
    "vicuna_13b_stage2",
    "vicuna_33b_stage1",
    "vicuna_33b_stage2",
    "zephyr_stage2",
    "eagle1_25",
);

impl Choices {
    /// Ranks are below this.
    pub const MAX_RANK: u32 = 64;

    /// A tree that comes along; [`Choices::names`] lists them. All but `eagle1_25` are Medusa's.
    pub fn named(name: &str) -> Option<Self> {
        let (_, text) = NAMED.iter().find(|(known, _)| *known == name)?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let words = lines.flat_map(str::split_whitespace);
        let path = |word: &str| {
            word.chars()
                .filter_map(|digit| digit.to_digit(10))
                .collect()
        };
        Self::from_paths(words.map(path).collect()).ok()
    }

    /// Names of the trees that come along.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|&(name, _)| name)
    }

    /// The tree measured for a model, by its name or path, and whether it is that model's own: Medusa's routing.
    /// Vicuna of 7, 13 or 33 billion weights and Zephyr have trees of their own; other models take
    /// `mc_sim_7b_63`, which may fit them badly.
    pub fn for_model(name_or_path: &str) -> (&'static str, bool) {
        let name = name_or_path.to_ascii_lowercase();
        let vicuna = name.rsplit_once("vicuna").map_or("", |(_, size)| size);
        let own = [
            (vicuna, "7b", "vicuna_7b_stage2"),
            (vicuna, "13b", "vicuna_13b_stage2"),
            (vicuna, "33b", "vicuna_33b_stage2"),
            (name.as_str(), "zephyr", "zephyr_stage2"),
        ];
        own.iter()
            .find(|(text, mark, _)| text.contains(mark))
            .map_or(("mc_sim_7b_63", false), |&(_, _, tree)| (tree, true))
    }

    /// A tree out of its paths, in any order. No path is a root alone.
    ///
    /// # Errors
    /// If there are more paths than nodes of a [`Tree`] below the root, or one is empty, there twice, without its
    /// parent, or has a rank of [`Choices::MAX_RANK`] or more.
    pub fn from_paths(mut paths: Vec<Vec<u32>>) -> Result<Self> {
        let most = Tree::MAX_NODES - 1;
        if paths.len() > most {
            return Err(Error::Invalid(format!(
                "a tree of {} paths; at most {most} are possible",
                paths.len()
            )));
        }
        let fail = |index: usize, path: &[u32], reason: String| {
            Err(Error::Invalid(format!("path {index} {path:?}: {reason}")))
        };
        let mut seen = BTreeSet::new();
        for (index, path) in paths.iter().enumerate() {
            if path.is_empty() {
                return fail(index, path, "it is empty".into());
            }
            if let Some(rank) = path.iter().find(|&&rank| rank >= Self::MAX_RANK) {
                let reason = format!("rank {rank} is not below {}", Self::MAX_RANK);
                return fail(index, path, reason);
            }
            if !seen.insert(path.as_slice()) {
                return fail(index, path, "it is there twice".into());
            }
        }
        for (index, path) in paths.iter().enumerate() {
            let parent = &path[..path.len() - 1];
            if !parent.is_empty() && !seen.contains(parent) {
                let reason = format!("its parent {parent:?} is not there");
                return fail(index, path, reason);
            }
        }
        paths.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        Ok(Choices { paths })
    }

    /// Reads Medusa's format: a list of lists of ranks, `[[0], [0, 0], [1]]`. `path` names the text in errors.
    ///
    /// # Errors
    /// If the text is not of that form, or as [`Choices::from_paths`].
    pub fn from_json(json: &str, path: &Path) -> Result<Self> {
        let paths = serde_json::from_str(json)
            .map_err(|e| Error::malformed(path, format!("not a list of lists of ranks: {e}")))?;
        Self::from_paths(paths).map_err(|e| Error::malformed(path, e.to_string()))
    }

    /// Reads a file in Medusa's format.
    ///
    /// # Errors
    /// If the file cannot be read, or as [`Choices::from_json`].
    pub fn from_file(path: &Path) -> Result<Self> {
        let json = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::from_json(&json, path)
    }

    /// A tree that comes along by its name, or out of a file.
    ///
    /// # Errors
    /// If `name` is neither, or as [`Choices::from_file`].
    pub fn open(name: &str) -> Result<Self> {
        if let Some(choices) = Self::named(name) {
            return Ok(choices);
        }
        let path = Path::new(name);
        if path.exists() || path.extension().is_some_and(|e| e == "json") {
            return Self::from_file(path);
        }
        let names: Vec<&str> = Self::names().collect();
        Err(Error::Invalid(format!(
            "{name}: there is no such file and no tree of that name; there are {}",
            names.join(", ")
        )))
    }

    /// The size of the whole tree.
    pub fn shape(&self) -> TreeShape {
        TreeShape {
            num_steps: self.depth(),
            topk: self.max_rank().map_or(1, |rank| rank + 1),
            num_draft_tokens: self.nodes() as u32,
        }
    }

    /// The tree in Medusa's format.
    pub fn to_json(&self) -> String {
        format!("{:?}", self.paths)
    }

    /// The paths by (length, lexicographic); node i is path i - 1.
    pub fn paths(&self) -> &[Vec<u32>] {
        &self.paths
    }

    /// Number of nodes, the root among them.
    pub fn nodes(&self) -> usize {
        self.paths.len() + 1
    }

    /// Length of the longest path: how many heads the tree asks for.
    pub fn depth(&self) -> u32 {
        self.paths.last().map_or(0, |path| path.len() as u32)
    }

    /// Largest rank at a depth, from 1: one less than how many candidates the tree asks of head `depth` - 1.
    pub fn max_rank_at(&self, depth: u32) -> Option<u32> {
        let at = self.paths.iter().filter(|path| path.len() as u32 == depth);
        at.filter_map(|path| path.last().copied()).max()
    }

    /// Largest rank at any depth; `None` for a root alone.
    pub fn max_rank(&self) -> Option<u32> {
        self.paths.iter().flatten().copied().max()
    }

    /// The part of the tree within `depth` heads of `ranks` candidates each.
    pub fn limit(&self, depth: u32, ranks: u32) -> Choices {
        let within =
            |path: &&Vec<u32>| path.len() <= depth as usize && path.iter().all(|&r| r < ranks);
        Choices {
            paths: self.paths.iter().filter(within).cloned().collect(),
        }
    }

    /// Parents of all nodes; the root has none.
    pub fn parents(&self) -> Vec<Option<u32>> {
        let parent = |path: &Vec<u32>| {
            let parent = &path[..path.len() - 1];
            let key =
                |other: &Vec<u32>| (other.len(), other.as_slice()).cmp(&(parent.len(), parent));
            self.paths.binary_search_by(key).map_or(0, |i| i as u32 + 1)
        };
        std::iter::once(None)
            .chain(self.paths.iter().map(|path| Some(parent(path))))
            .collect()
    }

    /// For each node its index in the list [root, best `topk` of head 0, best `topk` of head 1, ...].
    ///
    /// # Errors
    /// If a rank is not below `topk`.
    pub fn tree_indices(&self, topk: u32) -> Result<Vec<u32>> {
        let index = |(depth, rank): (u32, u32)| {
            if rank >= topk {
                return Err(Error::Invalid(format!(
                    "the tree takes candidate {rank} (from 0) at depth {depth}; there are {topk}"
                )));
            }
            Ok((depth - 1).saturating_mul(topk).saturating_add(rank + 1))
        };
        std::iter::once(Ok(0))
            .chain(self.ends().map(index))
            .collect()
    }

    /// The tree with tokens: `candidates[d]` are (token, log-probability) of head d, best first. The score of a node
    /// is the sum of log-probabilities along its path.
    ///
    /// # Errors
    /// If the tree is deeper than there are heads, or takes a candidate that a head does not have; if a head repeats
    /// a token or a log-probability is not finite.
    pub fn fill(&self, root: u32, candidates: &[Vec<(u32, f32)>]) -> Result<Tree> {
        if self.depth() as usize > candidates.len() {
            return Err(Error::Invalid(format!(
                "the tree is {} deep; there are {} heads",
                self.depth(),
                candidates.len()
            )));
        }
        let mut tree = Tree::new(root);
        let parents = self.parents().into_iter().skip(1).flatten();
        for ((depth, rank), parent) in self.ends().zip(parents) {
            let head = &candidates[depth as usize - 1];
            let Some(&(token, logp)) = head.get(rank as usize) else {
                return Err(Error::Invalid(format!(
                    "the tree takes candidate {rank} (from 0) of head {}, which has {}",
                    depth - 1,
                    head.len()
                )));
            };
            let parent = parent as usize;
            tree.push(parent, token, tree.score(parent) + logp)?;
        }
        Ok(tree)
    }

    /// (depth, rank at that depth) of each path.
    fn ends(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.paths
            .iter()
            .filter_map(|path| Some((path.len() as u32, *path.last()?)))
    }
}

#[cfg(test)]
mod tests;
