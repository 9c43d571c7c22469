use super::calibration::Calibration;
use super::{CostTable, Policy};
use crate::speculation::{DynamicTree, Tree};
use std::time::Duration;

/// Decides for a session how much to speculate, round by round.
#[derive(Debug, Clone)]
pub(crate) struct Planner {
    policy: Policy,
    /// Of the automatic policy; without one a step costs the same for any number of rows.
    costs: CostTable,
    calibration: Calibration,
    /// How often a node with children had one of them accepted.
    child_rate: f64,
    /// Seconds of drafting, before and for each level.
    draft: DraftCost,
    pause: Pause,
    /// What its rounds came to.
    outcome: Outcome,
    /// Tokens of rounds that others drafted since its last.
    passed: usize,
    /// Whether the draft has text to catch up with before it guesses: its next round is no measure of what drafting costs.
    behind: bool,
    limits: Limits,
}

/// What bounds a round from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// Levels below the root: what the context and the caller still take, less the bonus token.
    pub levels: u32,
    /// Rows of a verify.
    pub nodes: usize,
    /// Committed positions.
    pub positions: usize,
}

/// What a round did.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    pub tree: &'a Tree,
    /// Accepted nodes along the path, the root first.
    pub path: &'a [u32],
    /// Time and levels of drafting.
    pub draft: Duration,
    pub levels: u32,
    pub verify: Duration,
}

#[derive(Debug, Clone, Copy)]
struct DraftCost {
    start: f64,
    level: f64,
}

/// Rounds without speculation, once it has not paid.
#[derive(Debug, Clone, Copy)]
struct Pause {
    /// Mean of the speed-up over plain steps, and rounds that it is of.
    gain: f64,
    rounds: u32,
    left: u32,
    length: u32,
}

impl Pause {
    const SHORTEST: u32 = 16;
    const LONGEST: u32 = 256;
    /// Rounds after which a gain is believed.
    const TRIAL: u32 = 6;

    fn new() -> Self {
        Pause {
            gain: 1.0,
            rounds: 0,
            left: 0,
            length: Self::SHORTEST,
        }
    }

    fn observe(&mut self, gain: f64) {
        self.rounds += 1;
        self.gain += (gain - self.gain) / f64::from(self.rounds.min(16));
        if self.rounds >= Self::TRIAL && self.gain < 1.0 {
            *self = Pause {
                left: self.length,
                length: (2 * self.length).min(Self::LONGEST),
                ..Pause::new()
            };
        } else if self.rounds >= 4 * Self::TRIAL {
            self.length = Self::SHORTEST;
        }
    }
}

/// Means over the rounds that a draft was asked in.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    rounds: u32,
    tokens: f64,
    /// As the costs say, so that what they say of other rounds compares.
    seconds: f64,
}

impl Outcome {
    fn observe(&mut self, tokens: usize, seconds: f64) {
        self.rounds += 1;
        let share = DECAY.max(1.0 / f64::from(self.rounds));
        self.tokens += share * (tokens as f64 - self.tokens);
        self.seconds += share * (seconds - self.seconds);
    }
}

/// How fast means of costs and rates forget.
const DECAY: f64 = 0.1;

/// Speculation that promises less than this over a plain step is left.
const LEAST_GAIN: f64 = 1.01;

/// Tokens that a draft takes in as it guesses, without being measured wrong.
const FEW: usize = 16;

/// Drafting that takes less than this share of a plain step is not worth a pause.
const FREE: f64 = 0.01;

/// Levels of the automatic policy at most.
pub(crate) const DEEPEST: u32 = 24;

impl Planner {
    /// A planner that knows nothing of the text.
    pub fn new(policy: Policy, costs: CostTable) -> Self {
        let level = 0.05 * costs.seconds(1, 0);
        Planner {
            policy,
            costs,
            calibration: Calibration::new(),
            child_rate: 0.6,
            draft: DraftCost { start: 0.0, level },
            pause: Pause::new(),
            outcome: Outcome::default(),
            passed: 0,
            behind: true,
            limits: Limits::default(),
        }
    }

    /// Follows another policy, for another generation, and keeps what it knows.
    pub fn set_policy(&mut self, policy: Policy, costs: CostTable) {
        self.policy = policy;
        self.behind = true;
        if self.costs.steps() != costs.steps() {
            self.outcome = Outcome::default();
            self.draft.level = self.draft.level.max(0.05 * costs.seconds(1, 0));
            self.costs = costs;
        }
    }

    /// Starts a round; whether to draft in it.
    pub fn begin(&mut self, limits: Limits) -> bool {
        self.limits = limits;
        if limits.levels == 0 || limits.nodes < 2 {
            return false;
        }
        match self.policy {
            Policy::Off => false,
            Policy::Fixed(_) => true,
            Policy::Automatic if self.pause.left > 0 => {
                self.pause.left -= 1;
                false
            }
            Policy::Automatic => true,
        }
    }

    /// Candidates of a node, and nodes that a level is drafted from.
    pub fn topk(&self) -> usize {
        match self.policy {
            Policy::Fixed(shape) => shape.topk as usize,
            Policy::Automatic | Policy::Off => self.costs.topk(self.limits.positions),
        }
    }

    /// Levels below the root, at most.
    pub fn levels(&self) -> u32 {
        let levels = match self.policy {
            Policy::Fixed(shape) => shape.num_steps,
            Policy::Automatic | Policy::Off => DEEPEST,
        };
        levels.min(self.limits.levels)
    }

    /// Nodes to verify, the root among them, at most.
    pub fn nodes(&self) -> usize {
        let nodes = match self.policy {
            Policy::Fixed(shape) => shape.num_draft_tokens as usize,
            Policy::Automatic | Policy::Off => Tree::MAX_NODES,
        };
        nodes.min(self.limits.nodes).min(Tree::MAX_NODES)
    }

    /// Whether to draft one more level of a tree that has some.
    pub fn another_level(&self, tree: &DynamicTree) -> bool {
        let levels = tree.levels();
        if levels >= self.levels() {
            return false;
        }
        if let Policy::Fixed(_) = self.policy {
            return true;
        }
        let Ok(so_far) = tree.finish(self.nodes()) else {
            return false;
        };
        let best = self.best(&so_far, levels);
        let frontier = tree.frontier().iter().map(|node| (node.score, node.depth));
        let (now, deeper) = self.rates(best, levels, frontier);
        deeper > now
    }

    /// Children of the root that are drawn from a draft's distribution, with a chain below each.
    pub fn drawn_width(&self) -> usize {
        match self.policy {
            Policy::Fixed(shape) => shape.topk as usize,
            Policy::Automatic | Policy::Off => 1,
        }
    }

    /// Whether to draw one more level of a tree that is verified whole.
    pub fn another_drawn_level(&self, tree: &Tree, levels: u32) -> bool {
        if let Policy::Fixed(_) = self.policy {
            return true;
        }
        let (now, deeper) = self.drawn_rates(tree, levels);
        deeper > now
    }

    fn drawn_rates(&self, tree: &Tree, levels: u32) -> (f64, f64) {
        let expected = self.probabilities(tree).iter().sum();
        let last = (0..tree.len()).filter(|node| tree.depth(*node) == levels);
        let last = last.map(|node| (tree.score(node), levels));
        self.rates((tree.len(), expected), levels, last)
    }

    /// Tokens for the time of a tree and of one with a level more, given the nodes that are verified, the tokens that they give, and
    /// score and depth of the nodes of the last level, best first.
    fn rates(
        &self,
        (nodes, expected): (usize, f64),
        levels: u32,
        frontier: impl Iterator<Item = (f32, u32)>,
    ) -> (f64, f64) {
        let mut frontier = frontier.peekable();
        // A guess at the level to come: between what children came to so far, and what the best path has been like.
        let best = frontier.peek().copied();
        let edge = best.map_or(0.0, |(score, depth)| {
            (f64::from(score) / f64::from(depth)).exp()
        });
        let reach: f64 = frontier.map(|(score, _)| f64::from(score).exp()).sum();
        let more = reach.min(1.0) * 0.5 * (self.child_rate + edge);
        let cost = self.round_seconds(nodes, levels);
        let next = self.round_seconds((nodes + 2).min(self.nodes()), levels + 1);
        (expected / cost, (expected + more) / next)
    }

    /// The part of a tree that is worth its verification.
    pub fn prune(&self, tree: &Tree, levels: u32) -> Tree {
        let tree = &tree.truncate_depth(self.levels());
        let nodes = match self.policy {
            Policy::Fixed(_) => self.nodes(),
            Policy::Automatic | Policy::Off => self.best(tree, levels).0,
        };
        tree.retain_top(nodes)
    }

    /// Tokens a second of the rounds that the draft was asked in so far, of a step where no costs are known. More than plain steps
    /// give: whether it is worth asking at all is for [`Planner::begin`] to say. Boundless before the first few rounds.
    pub fn promise(&self) -> f64 {
        let Outcome {
            rounds,
            tokens,
            seconds,
        } = self.outcome;
        if rounds < Pause::TRIAL {
            return f64::INFINITY;
        }
        (tokens / seconds).max(LEAST_GAIN / self.seconds(1))
    }

    /// Tokens a second that a proposal of the draft is expected to give, in the same measure.
    pub fn worth(&self, proposal: &Tree, levels: u32) -> f64 {
        let expected: f64 = self.probabilities(proposal).iter().sum();
        expected / self.round_seconds(proposal.len(), levels)
    }

    /// Takes note of a round that was drafted in.
    pub fn observe(&mut self, round: &Observation<'_>) {
        let tree = round.tree;
        let seconds = self.round_seconds(tree.len(), round.levels);
        self.outcome.observe(round.path.len(), seconds);
        self.behind |= std::mem::take(&mut self.passed) > FEW;
        for &node in round.path {
            let node = node as usize;
            let mut accepted = false;
            let mut children = 0;
            for child in tree.children(node) {
                let right = round.path.contains(&(child as u32));
                let probability = f64::from(tree.score(child) - tree.score(node)).exp();
                self.calibration.observe(probability, right);
                accepted |= right;
                children += 1;
            }
            if children > 0 {
                let rate = f64::from(u8::from(accepted));
                self.child_rate += DECAY * (rate - self.child_rate);
            }
        }
        self.calibration.forget();
        if self.policy != Policy::Automatic {
            return;
        }
        let positions = self.limits.positions;
        self.costs.observe(tree.len(), positions, round.verify);
        if std::mem::take(&mut self.behind) {
            return;
        }
        let plain = self.costs.seconds(1, positions);
        // The first level is what drafting begins with.
        let below = f64::from(round.levels.saturating_sub(1));
        let known = self.draft.start + self.draft.level * below;
        // What something interrupted says nothing.
        let draft = round.draft.as_secs_f64();
        let measured = draft.min(4.0 * known.max(plain));
        // What the two do not explain, in proportion to what they weigh.
        let step = DECAY * (measured - known) / (1.0 + below * below);
        self.draft.start = (self.draft.start + step).max(0.0);
        self.draft.level = (self.draft.level + step * below).max(0.0);
        let spent = draft + self.costs.seconds(tree.len(), positions);
        // A draft that costs next to nothing may be asked always: what it says decides whether it is heeded.
        if self.draft.start > FREE * plain {
            self.pause.observe(round.path.len() as f64 * plain / spent);
        }
    }

    /// Takes note of a round that another draft was taken in, which gave so many tokens.
    pub fn pass(&mut self, tokens: usize) {
        self.passed += tokens;
    }

    /// Takes note of a step of one row without drafting.
    pub fn observe_plain(&mut self, time: Duration) {
        self.behind = true;
        if self.policy == Policy::Automatic {
            self.costs.observe(1, self.limits.positions, time);
        }
    }

    /// The number of best nodes that gives the most tokens for the time, and the tokens that they give.
    fn best(&self, tree: &Tree, levels: u32) -> (usize, f64) {
        let probabilities = self.probabilities(tree);
        let mut order: Vec<usize> = (1..tree.len()).collect();
        order.sort_by(|&a, &b| tree.score(b).total_cmp(&tree.score(a)).then(a.cmp(&b)));
        let plain = 1.0 / self.round_seconds(1, levels);
        let mut best = (1, 1.0, LEAST_GAIN * plain);
        let mut expected = 1.0;
        for (nodes, &node) in (2..).zip(&order) {
            if nodes > self.nodes() {
                break;
            }
            expected += probabilities[node];
            let rate = expected / self.round_seconds(nodes, levels);
            if rate > best.2 {
                best = (nodes, expected, rate);
            }
        }
        (best.0, best.1)
    }

    /// Of each node, that it is accepted.
    fn probabilities(&self, tree: &Tree) -> Vec<f64> {
        let mut probabilities = vec![1.0; tree.len()];
        for node in 1..tree.len() {
            if let Some(parent) = tree.parent(node) {
                let edge = f64::from(tree.score(node) - tree.score(parent)).exp();
                probabilities[node] = probabilities[parent] * self.calibration.probability(edge);
            }
        }
        probabilities
    }

    fn round_seconds(&self, nodes: usize, levels: u32) -> f64 {
        let drafted = f64::from(levels.saturating_sub(1)) * self.draft.level + self.draft.start;
        drafted + self.seconds(nodes)
    }

    /// Of a step of so many rows.
    fn seconds(&self, rows: usize) -> f64 {
        let seconds = self.costs.seconds(rows, self.limits.positions);
        // A machine that nothing was measured on.
        if seconds > 0.0 { seconds } else { 1.0 }
    }
}

#[cfg(test)]
mod on_device;
#[cfg(test)]
mod tests;
