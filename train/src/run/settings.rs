use crate::optimizer::AdamWSettings;
use crate::random::Random;
use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};

/// A training run. All but the last five fields decide what comes out, and a run resumes only with the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSettings {
    /// Examples of an optimizer step. Their gradients are summed and divided by the positions of all of them that count at
    /// step 0 (or for head 0), so that each such position weighs the same, whatever example it is in.
    pub batch: usize,
    /// Times that each example is seen.
    pub epochs: u64,
    /// Optimizer steps, if the epochs have more.
    pub max_steps: Option<u64>,
    /// Decides the order of examples.
    pub seed: u64,
    /// Examples that are kept from training.
    pub held_out: HeldOut,
    /// Learning rate.
    pub schedule: Schedule,
    /// The optimizer.
    pub optimizer: AdamWSettings,
    /// Examples that are computed at the same time, each by a thread that shares the device with the others. What comes out
    /// does not depend on it; on CPUs as many as cores is fastest, and each needs room for its graph.
    pub parallel: usize,
    /// Steps between evaluations on what is held out; the end of the run is always evaluated.
    pub evaluate_every: Option<u64>,
    /// Most examples of an evaluation.
    pub evaluate_at_most: usize,
    /// Steps between checkpoints; the end of the run always has one.
    pub checkpoint_every: Option<u64>,
    /// The run stops after this time as if it were told to, and can be resumed.
    pub max_seconds: Option<f64>,
}

/// Examples that are kept from training: those whose index has the smallest hash, so that they are the same ones in each
/// run over the same source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldOut {
    /// A share of all.
    Fraction(f64),
    /// As many.
    Count(usize),
}

impl Default for RunSettings {
    fn default() -> Self {
        RunSettings {
            batch: 8,
            epochs: 1,
            max_steps: None,
            seed: 0,
            held_out: HeldOut::Fraction(0.02),
            schedule: Schedule::default(),
            optimizer: AdamWSettings::default(),
            parallel: 2,
            evaluate_every: Some(200),
            evaluate_at_most: 64,
            checkpoint_every: Some(100),
            max_seconds: None,
        }
    }
}

impl RunSettings {
    /// Optimizer steps of the whole run over this many examples for training.
    pub fn total_steps(&self, examples: usize) -> u64 {
        let an_epoch = examples.div_ceil(self.batch.max(1)) as u64;
        let all = an_epoch.saturating_mul(self.epochs);
        self.max_steps.map_or(all, |most| most.min(all))
    }

    /// What decides what comes out.
    pub(super) fn deciding(&self) -> RunSettings {
        let free = RunSettings::default();
        RunSettings {
            parallel: free.parallel,
            evaluate_every: free.evaluate_every,
            evaluate_at_most: free.evaluate_at_most,
            checkpoint_every: free.checkpoint_every,
            max_seconds: free.max_seconds,
            ..self.clone()
        }
    }
}

impl HeldOut {
    /// Indices for training and indices held out of `len` examples, both rising.
    pub fn split(self, len: usize) -> (Vec<usize>, Vec<usize>) {
        let count = match self {
            HeldOut::Fraction(share) => (share.clamp(0.0, 1.0) * len as f64).round() as usize,
            HeldOut::Count(count) => count,
        };
        let mut hashed: Vec<(u64, usize)> = (0..len)
            .map(|i| (Random::new(i as u64, 2).bits(), i))
            .collect();
        hashed.sort_unstable();
        let (held_out, rest) = hashed.split_at(count.min(len));
        let indices = |part: &[(u64, usize)]| {
            let mut indices: Vec<usize> = part.iter().map(|&(_, i)| i).collect();
            indices.sort_unstable();
            indices
        };
        (indices(rest), indices(held_out))
    }
}

/// Indices for training in the order of an epoch.
pub(super) fn order(examples: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut order = examples.to_vec();
    Random::new(seed, 3 + epoch).shuffle(&mut order);
    order
}
