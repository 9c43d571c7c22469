use crate::parameters::{Gradients, Parameters};
use crate::{Example, Features, Result};
use serde_json::Value;

/// Ranks that [`Measure::ranks`] tells apart.
pub const RANKS: usize = 10;

/// What was found at the positions of one step of the training-time test, or of one head.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measure {
    /// Sum of the loss over the positions that count.
    pub loss: f64,
    /// Positions that count for the loss: the token to guess is in the draft vocabulary.
    pub counted: usize,
    /// Positions of answers. At those that do not count the guess is wrong.
    pub positions: usize,
    /// Positions at which the best guess is the target's best token.
    pub right: usize,
    /// Positions at which guess `rank` is right; only in evaluation.
    pub ranks: [usize; RANKS],
}

impl Measure {
    /// Mean loss of a position that counts.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.counted.max(1) as f64
    }

    /// Share of answers' positions at which the best guess is right.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.positions.max(1) as f64
    }

    /// Shares of answers' positions at which each guess is right, as tree search takes them.
    pub fn rank_accuracies(&self) -> Vec<f64> {
        let share = |&right: &usize| right as f64 / self.positions.max(1) as f64;
        self.ranks.iter().map(share).collect()
    }

    /// Adds another example's.
    pub fn add(&mut self, other: &Measure) {
        self.loss += other.loss;
        self.counted += other.counted;
        self.positions += other.positions;
        self.right += other.right;
        for (sum, ranks) in self.ranks.iter_mut().zip(other.ranks) {
            *sum += ranks;
        }
    }
}

/// A draft under training.
pub trait Learner: Sync {
    /// All that decides what the parameters mean; training resumes only with the same.
    fn settings(&self) -> Value;

    /// Weight of the loss of each step or head.
    fn weights(&self) -> &[f64];

    /// What is learnt.
    fn parameters(&self) -> &Parameters;

    /// What is learnt, for the optimizer.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// Loss and gradients of one example. The gradients are of the sum over steps and positions of weight times loss.
    /// Gradients of several examples add up; divided by the positions that count at step 0, they are those of a mean.
    /// There are none if nothing in the example counts.
    ///
    /// # Errors
    /// If example and features do not fit each other or the target.
    fn learn(
        &self,
        example: &Example,
        features: &Features,
    ) -> Result<(Vec<Measure>, Option<Gradients>)>;

    /// Loss and ranks of one example.
    ///
    /// # Errors
    /// As [`Learner::learn`].
    fn evaluate(&self, example: &Example, features: &Features) -> Result<Vec<Measure>>;
}
