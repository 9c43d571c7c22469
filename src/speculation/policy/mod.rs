//! How deep and how wide to speculate.

mod calibration;
mod cost;
mod planner;

pub use cost::{CostTable, StepCost};
pub(crate) use planner::{DEEPEST, Limits, Observation, Planner};

use crate::speculation::{Acceptance, Choices, Tree};
use crate::{Error, Result};

/// Whether a generation speculates, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpeculationOptions {
    /// Depth and width of the trees.
    pub policy: Policy,
    /// Which guesses count as right.
    pub acceptance: Acceptance,
    /// Ranks of the candidates that a static tree takes; only for drafts that guess all depths at once (Medusa). Without them
    /// trees grow by the draft's probabilities.
    pub choices: Option<Choices>,
}

impl SpeculationOptions {
    /// One token at a time, whatever draft the engine has.
    pub fn off() -> Self {
        SpeculationOptions {
            policy: Policy::Off,
            ..SpeculationOptions::default()
        }
    }

    /// Trees of one shape in every round.
    pub fn fixed(shape: TreeShape) -> Self {
        SpeculationOptions {
            policy: Policy::Fixed(shape),
            ..SpeculationOptions::default()
        }
    }
}

/// Depth and width of the trees of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Chosen every round from the draft's probabilities, how right they have been so far, and what steps of each width
    /// cost on this machine. Does not speculate where that does not pay.
    #[default]
    Automatic,
    /// The same every round.
    Fixed(TreeShape),
    /// No speculation.
    Off,
}

/// Size of a tree, counted as SGLang counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeShape {
    /// Levels below the root.
    pub num_steps: u32,
    /// Candidates of a node, and nodes of a level that are drafted from.
    pub topk: u32,
    /// Nodes that are verified, the root among them.
    pub num_draft_tokens: u32,
}

impl TreeShape {
    /// A chain of that many guesses.
    pub fn chain(num_steps: u32) -> Self {
        TreeShape {
            num_steps,
            topk: 1,
            num_draft_tokens: num_steps.saturating_add(1),
        }
    }

    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// If one is 0, the tree has more nodes than [`Tree::MAX_NODES`], or it cannot have as many as are to be verified.
    pub fn validate(self) -> Result<()> {
        let TreeShape {
            num_steps,
            topk,
            num_draft_tokens,
        } = self;
        let fail = |reason: String| Err(Error::Invalid(reason));
        if num_steps == 0 || topk == 0 || num_draft_tokens < 2 {
            return fail(format!(
                "a tree of {num_steps} levels, {topk} candidates a node and {num_draft_tokens} nodes guesses nothing; it \
                 takes at least 1, 1 and 2"
            ));
        }
        if num_draft_tokens as usize > Tree::MAX_NODES {
            return fail(format!(
                "{num_draft_tokens} draft tokens; a tree has at most {} nodes, the root counted",
                Tree::MAX_NODES
            ));
        }
        if topk as usize >= Tree::MAX_NODES {
            return fail(format!(
                "a top-k of {topk}; a tree has at most {} nodes",
                Tree::MAX_NODES
            ));
        }
        // k candidates below the root, then k of each of k nodes a level.
        let (k, levels) = (u64::from(topk), u64::from(num_steps));
        let most = (1 + k).saturating_add((levels - 1).saturating_mul(k * k));
        if u64::from(num_draft_tokens) > most {
            return fail(format!(
                "{num_draft_tokens} draft tokens do not fit a tree of {num_steps} levels with a top-k of {topk}, which has \
                 at most {most} nodes"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_guess_nothing_or_too_much_are_refused() {
        let shape = |num_steps, topk, num_draft_tokens| {
            let shape = TreeShape {
                num_steps,
                topk,
                num_draft_tokens,
            };
            shape.validate().map_err(|e| e.to_string())
        };
        assert_eq!(shape(1, 1, 2), Ok(()));
        assert_eq!(shape(5, 8, 64), Ok(()));
        assert!(TreeShape::chain(63).validate().is_ok());
        for (bad, part) in [
            (shape(0, 1, 2), "guesses nothing"),
            (shape(3, 0, 2), "guesses nothing"),
            (shape(3, 1, 1), "guesses nothing"),
            (shape(5, 8, 65), "at most 64"),
            (shape(5, 64, 64), "top-k of 64"),
            (shape(3, 1, 5), "at most 4 nodes"),
            (shape(2, 2, 8), "at most 7 nodes"),
        ] {
            let message = bad.unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }
}
