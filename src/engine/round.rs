use crate::device::RoundTimes;
use crate::speculation::Tree;
use serde::Serialize;
use std::time::Duration;

/// What one round of speculation did: see [`super::TokenStream::with_rounds`]. Nodes are in record order: by level, then by
/// the parent's rank in its frontier, then by the child's rank.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// Tokens of the sequence before the root.
    pub prefix_len: usize,
    /// Tokens of the nodes that were verified, the root first.
    pub draft_tokens: Vec<u32>,
    /// Index of each node's parent; `None` for the root.
    pub parent: Vec<Option<u32>>,
    /// Levels below the root.
    pub depth: Vec<u32>,
    /// Natural logarithm of the probability of the path as the draft sees it.
    pub node_score: Vec<f32>,
    /// Nodes accepted, along the path, without the root.
    pub accepted_nodes: Vec<u32>,
    /// The token after them; `None` if the text ended with one of them.
    pub bonus: Option<u32>,
}

impl Round {
    pub(super) fn new(prefix_len: usize, tree: &Tree, path: &[u32], bonus: Option<u32>) -> Self {
        let nodes = 0..tree.len();
        Round {
            prefix_len,
            draft_tokens: tree.tokens().to_vec(),
            parent: tree.parents(),
            depth: nodes.clone().map(|node| tree.depth(node)).collect(),
            node_score: nodes.map(|node| tree.score(node)).collect(),
            accepted_nodes: path.iter().skip(1).copied().collect(),
            bonus,
        }
    }
}

/// What the rounds of one generation did.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SpeculationStatistics {
    /// Verifications; steps without a draft among them.
    pub rounds: usize,
    /// Nodes verified, roots not counted.
    pub drafted: usize,
    /// Nodes accepted.
    pub accepted: usize,
    /// Tokens emitted, bonus tokens among them.
    pub emitted: usize,
    /// For each level below the root, from 1.
    pub levels: Vec<LevelStatistics>,
    /// Where lookup and another draft take turns: what each did, in the order of their first rounds.
    pub drafters: Vec<DrafterStatistics>,
    /// Time to draft. This one and the two that follow come from a device when a generation has ended; a virtual one has no clock, and
    /// leaves them 0: see [`SpeculationStatistics::is_timed`].
    pub draft: Duration,
    /// Time to verify.
    pub verify: Duration,
    /// Time to accept and commit.
    pub accept: Duration,
}

/// How often a level of the trees was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LevelStatistics {
    /// Rounds whose tree had such a level.
    pub offered: usize,
    /// Those of them in which a node of it was accepted.
    pub accepted: usize,
}

/// What one of several drafters did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DrafterStatistics {
    /// `ngram`, or the kind of the other.
    pub kind: &'static str,
    /// Rounds that it had the last word in, those among them in which it guessed nothing; of a device's other draft also those in
    /// which it paused.
    pub rounds: usize,
    /// Tokens emitted in them, bonus tokens among them.
    pub emitted: usize,
}

impl DrafterStatistics {
    /// Mean number of tokens emitted per round, the bonus token counted.
    pub fn accept_len(&self) -> f64 {
        self.emitted as f64 / self.rounds.max(1) as f64
    }
}

impl SpeculationStatistics {
    /// Mean number of tokens emitted per round, the bonus token counted; 0 before the first.
    pub fn accept_len(&self) -> f64 {
        self.emitted as f64 / self.rounds.max(1) as f64
    }

    /// Whether it is known how long rounds took.
    pub fn is_timed(&self) -> bool {
        self.rounds == 0 || !(self.draft + self.verify + self.accept).is_zero()
    }

    /// Adds another generation's.
    pub fn add(&mut self, other: &SpeculationStatistics) {
        self.rounds += other.rounds;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.emitted += other.emitted;
        self.draft += other.draft;
        self.verify += other.verify;
        self.accept += other.accept;
        if self.levels.len() < other.levels.len() {
            let levels = other.levels.len();
            self.levels.resize(levels, LevelStatistics::default());
        }
        for (level, other) in self.levels.iter_mut().zip(&other.levels) {
            level.offered += other.offered;
            level.accepted += other.accepted;
        }
        for other in &other.drafters {
            self.add_drafter(*other);
        }
    }

    /// Counts rounds and tokens of one of several drafters.
    pub(super) fn count_drafter(
        &mut self,
        kind: Option<&'static str>,
        rounds: usize,
        emitted: usize,
    ) {
        if let Some(kind) = kind {
            self.add_drafter(DrafterStatistics {
                kind,
                rounds,
                emitted,
            });
        }
    }

    fn add_drafter(&mut self, other: DrafterStatistics) {
        match self.drafters.iter_mut().find(|d| d.kind == other.kind) {
            Some(drafter) => {
                drafter.rounds += other.rounds;
                drafter.emitted += other.emitted;
            }
            None => self.drafters.push(other),
        }
    }

    pub(super) fn count(&mut self, tree: &Tree, path: &[u32], emitted: usize) {
        self.offer(tree.len() - 1, tree.max_depth() as usize);
        self.accepted += path.len() - 1;
        self.emitted += emitted;
        for level in self.levels.iter_mut().take(path.len() - 1) {
            level.accepted += 1;
        }
    }

    /// Counts a round that verifies a tree of `guesses` in so many levels, before its tokens.
    pub(super) fn count_round(&mut self, guesses: usize, levels: usize) {
        self.offer(guesses, levels);
    }

    /// Counts token number `index` of such a round.
    pub(super) fn count_token(&mut self, index: usize, accepted: bool) {
        self.emitted += 1;
        if accepted {
            self.accepted += 1;
            if let Some(level) = self.levels.get_mut(index) {
                level.accepted += 1;
            }
        }
    }

    /// Adds what a device says that all its rounds took.
    pub(super) fn count_times(&mut self, times: &RoundTimes) {
        self.draft += times.draft;
        self.verify += times.verify;
        self.accept += times.accept;
    }

    fn offer(&mut self, drafted: usize, levels: usize) {
        self.rounds += 1;
        self.drafted += drafted;
        if self.levels.len() < levels {
            self.levels.resize(levels, LevelStatistics::default());
        }
        for level in self.levels.iter_mut().take(levels) {
            level.offered += 1;
        }
    }
}
