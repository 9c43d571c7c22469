//! Medusa-1 heads: a residual block on the target's last hidden state for each token ahead, read by the target's head or by
//! a matrix of its own (Cai et al., 2024).

mod settings;

pub use settings::MedusaSettings;

use crate::cross_entropy::{Asked, Goals, Scored, cross_entropy, distributions};
use crate::learner::{Learner, Measure};
use crate::parameters::{Form, Gradients, Parameters, backward, matrix};
use crate::positions::{Positions, Step};
use crate::vocabulary::{DraftIds, fingerprint, rows};
use crate::{Error, Example, Features, Result, Target};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};
use std::sync::Arc;

/// Medusa heads under training. Losses are over the draft vocabulary alone, also where the heads are to be read by the
/// whole of the target's head: the tokens left out are rare in answers, and a row of logits costs a fraction.
pub struct MedusaLearner {
    settings: MedusaSettings,
    weights: Vec<f64>,
    target: Arc<Target>,
    vocabulary: Vec<u32>,
    ids: DraftIds,
    /// Rows of the target's head for the draft vocabulary `[draft vocabulary, h]`.
    target_head: Tensor<2>,
    /// Weight and bias of each head, then the matrices.
    parameters: Parameters,
    device: Device,
}

impl MedusaLearner {
    /// Fresh heads: blocks of zeros, which give back the hidden state that they are fed.
    ///
    /// # Errors
    /// If there are no heads, or the vocabulary (ids of the target, rising) does not fit the target.
    pub fn new(
        settings: MedusaSettings,
        target: Arc<Target>,
        vocabulary: Vec<u32>,
        device: &Device,
    ) -> Result<Self> {
        if settings.heads == 0 {
            return Err(Error::Invalid(
                "there is at least one Medusa head".to_owned(),
            ));
        }
        let h = target.config.hidden_size as usize;
        let ids = DraftIds::new(&vocabulary, target.config.vocab_size as usize)?;
        let head_rows = rows(target.head(), h, vocabulary.iter().copied());
        let target_head = matrix(head_rows, [vocabulary.len(), h], device);
        let mut parameters = Parameters::default();
        for i in 0..settings.heads {
            let zeros = matrix(vec![0.0; h * h], [h, h], device);
            parameters.push(format!("{i}.0.linear.weight"), Form::Linear, zeros);
            parameters.vector(&format!("{i}.0.linear.bias"), vec![0.0; h], device);
        }
        if settings.own_matrices {
            for i in 0..settings.heads {
                parameters.push(format!("{i}.1.weight"), Form::Rows, target_head.clone());
            }
        }
        Ok(MedusaLearner {
            weights: (0..settings.heads)
                .map(|i| settings.decay.powi(i as i32))
                .collect(),
            settings,
            target,
            vocabulary,
            ids,
            target_head,
            parameters,
            device: device.clone(),
        })
    }

    /// Heads and training.
    pub fn heads(&self) -> &MedusaSettings {
        &self.settings
    }

    /// Tokens of the target that losses are over, rising.
    pub fn vocabulary(&self) -> &[u32] {
        &self.vocabulary
    }

    /// Scores each head, step by step as [`Positions`] has them; a head without positions that count has no score.
    fn score(
        &self,
        example: &Example,
        features: &Features,
        weights: &[Tensor<2>],
        with_ranks: bool,
    ) -> Result<(Vec<Measure>, Vec<Scored>)> {
        let h = self.target.config.hidden_size as usize;
        features.check(example, h, self.target.config.vocab_size)?;
        let precision = self.parameters.precision();
        let positions = Positions::of(example, self.settings.heads, &self.ids, &|_| true);
        let measure = |step: &Step| Measure {
            positions: step.asked,
            ..Measure::default()
        };
        let mut measures: Vec<Measure> = positions.steps.iter().map(measure).collect();
        let last = |at: &mut dyn Iterator<Item = usize>| {
            let at: Vec<u32> = at.map(|t| t as u32).collect();
            let count = at.len();
            matrix(rows(&features.last, h, at), [count, h], &self.device)
        };
        let soft = match self.settings.soft_targets && !positions.targets.is_empty() {
            true => Some(distributions(
                last(&mut positions.targets.iter().copied()),
                &self.target_head,
                precision,
            )?),
            false => None,
        };
        let mut scores = Vec::new();
        for (i, (step, measure)) in positions.steps.iter().zip(&mut measures).enumerate() {
            if step.rows.is_empty() {
                continue;
            }
            let at = |&row: &usize| match i {
                0 => positions.rows[row],
                _ => positions.rows[positions.later[row]],
            };
            let x = last(&mut step.rows.iter().map(at));
            let (w, b) = (weights[2 * i].clone(), weights[2 * i + 1].clone());
            let block = precision.product(x.clone(), w) + b;
            let x = x + block.clone() * sigmoid(block);
            let own = self.settings.own_matrices;
            let head = match own {
                true => weights[2 * self.settings.heads + i].clone(),
                false => self.target_head.clone(),
            };
            let asked = match with_ranks {
                true => Asked::Ranks,
                false => Asked::Gradients {
                    factors: vec![self.weights[i] as f32; step.rows.len()],
                    head: own,
                },
            };
            let token = |row: &usize| self.ids.of(example.tokens[at(row) + 2 + i]);
            let tokens: Vec<u32> = step.rows.iter().filter_map(token).collect();
            let goals = match &soft {
                Some((probabilities, best)) => Goals::Soft {
                    probabilities,
                    best,
                    rows: &step.targets,
                },
                None => Goals::Hard(&tokens),
            };
            let scored = cross_entropy(x, &head, &goals, &asked, precision)?;
            scored.measure(0..step.rows.len(), measure);
            scores.push(scored);
        }
        Ok((measures, scores))
    }
}

impl Learner for MedusaLearner {
    fn settings(&self) -> Value {
        json!({
            "kind": "medusa",
            "heads": self.settings,
            "rounding": self.parameters.rounding(),
            "precision": self.parameters.precision(),
            "vocabulary": format!("{:016x}", fingerprint(&self.vocabulary)),
        })
    }

    fn weights(&self) -> &[f64] {
        &self.weights
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn learn(
        &self,
        example: &Example,
        features: &Features,
    ) -> Result<(Vec<Measure>, Option<Gradients>)> {
        let (leaves, weights) = self.parameters.leaves();
        let (measures, scores) = self.score(example, features, &weights, false)?;
        if scores.is_empty() {
            return Ok((measures, None));
        }
        let (mut outputs, mut known, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        let mut scores = scores.into_iter();
        for (i, measure) in measures.iter().enumerate() {
            let scored = match measure.counted {
                0 => None,
                _ => scores.next(),
            };
            if let Some(scored) = scored {
                outputs.push(scored.outputs);
                known.extend(scored.known);
                heads.extend(scored.head);
            } else if self.settings.own_matrices {
                heads.push(
                    leaves[2 * self.settings.heads + i]
                        .clone()
                        .inner()
                        .zeros_like(),
                );
            }
        }
        let outputs = Tensor::cat(outputs, 0);
        let gradients = backward(outputs, Some(Tensor::cat(known, 0)), leaves, heads)?;
        Ok((measures, Some(gradients)))
    }

    fn evaluate(&self, example: &Example, features: &Features) -> Result<Vec<Measure>> {
        let constants = self.parameters.constants();
        Ok(self.score(example, features, &constants, true)?.0)
    }
}
