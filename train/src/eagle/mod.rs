//! EAGLE-3: a layer of the target's shape with a head of its own, fed hidden states of three of the target's layers and then
//! its own outputs (Li et al., 2025).

mod layer;
mod settings;

pub use settings::{EagleSettings, EagleTraining};

use crate::cross_entropy::{Asked, Goals, Scored, cross_entropy, distributions, indices};
use crate::learner::{Learner, Measure};
use crate::parameters::{Form, Gradients, Parameters, backward, matrix};
use crate::positions::{Positions, Step};
use crate::random::Random;
use crate::vocabulary::{DraftIds, fingerprint, rows};
use crate::{Error, Example, Features, Result, Target};
use burn::tensor::{Device, Tensor};
use layer::{Inputs, Layer, Rope};
use serde_json::{Value, json};
use std::sync::Arc;

/// An EAGLE-3 layer under training.
pub struct EagleLearner {
    settings: EagleSettings,
    training: EagleTraining,
    weights: Vec<f64>,
    target: Arc<Target>,
    vocabulary: Vec<u32>,
    ids: DraftIds,
    /// Rows of the target's head for the draft vocabulary `[draft_vocab_size, h]`.
    target_head: Tensor<2>,
    /// The head is the last.
    parameters: Parameters,
    device: Device,
}

impl EagleLearner {
    /// A fresh layer for a target. `vocabulary` are the ids of the target that it can guess, rising. Linear maps begin as
    /// PyTorch begins them, from `seed`; norms begin at 1.
    ///
    /// # Errors
    /// If settings, vocabulary and target do not fit each other.
    pub fn new(
        settings: EagleSettings,
        training: EagleTraining,
        target: Arc<Target>,
        vocabulary: Vec<u32>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        settings.check()?;
        let h = settings.hidden_size;
        if h != target.config.hidden_size as usize {
            return Err(Error::Invalid(format!(
                "the layer has hidden_size {h}, the target {}",
                target.config.hidden_size
            )));
        }
        if vocabulary.len() != settings.draft_vocab_size {
            return Err(Error::Invalid(format!(
                "the layer guesses at {} tokens, the draft vocabulary has {}",
                settings.draft_vocab_size,
                vocabulary.len()
            )));
        }
        let share = training.later_share;
        if training.steps == 0 || !(share > 0.0 && share <= 1.0) {
            return Err(Error::Invalid(format!(
                "training-time test takes at least one step and a share above 0 and up to 1, got {} and {share}",
                training.steps
            )));
        }
        let ids = DraftIds::new(&vocabulary, target.config.vocab_size as usize)?;
        let head_rows = rows(target.head(), h, vocabulary.iter().copied());
        let target_head = matrix(head_rows, [vocabulary.len(), h], device);
        let mut parameters = Parameters::default();
        let mut random = Random::new(seed, 1);
        let (q, kv) = (
            settings.num_attention_heads * settings.head_dim,
            settings.num_key_value_heads * settings.head_dim,
        );
        let f = settings.intermediate_size;
        let mut linear = |parameters: &mut Parameters, name: &str, shape| {
            parameters.linear(name, shape, &mut random, device);
        };
        let one = |parameters: &mut Parameters, name: &str| {
            parameters.vector(name, vec![1.0; h], device);
        };
        let p = &mut parameters;
        linear(p, "fc.weight", [h, 3 * h]);
        one(p, "midlayer.hidden_norm.weight");
        one(p, "midlayer.input_layernorm.weight");
        linear(p, "midlayer.self_attn.q_proj.weight", [q, 2 * h]);
        linear(p, "midlayer.self_attn.k_proj.weight", [kv, 2 * h]);
        linear(p, "midlayer.self_attn.v_proj.weight", [kv, 2 * h]);
        linear(p, "midlayer.self_attn.o_proj.weight", [h, q]);
        one(p, "midlayer.post_attention_layernorm.weight");
        linear(p, "midlayer.mlp.gate_proj.weight", [f, h]);
        linear(p, "midlayer.mlp.up_proj.weight", [f, h]);
        linear(p, "midlayer.mlp.down_proj.weight", [h, f]);
        let head = match training.head_from_target {
            true => {
                // The target's head reads nothing in a state that has not been learnt yet: at full size its guesses would be as
                // sure as they are wrong, and the first steps would only unlearn them.
                let norm = target.norm.iter().map(|weight| 0.5 * weight);
                p.vector("norm.weight", norm.collect(), device);
                target_head.clone()
            }
            false => {
                one(p, "norm.weight");
                let values = random.uniform(vocabulary.len() * h, 1.0 / (h as f32).sqrt());
                matrix(values, [vocabulary.len(), h], device)
            }
        };
        p.push("lm_head.weight".to_owned(), Form::Rows, head);
        Ok(EagleLearner {
            weights: (0..training.steps)
                .map(|i| training.decay.powi(i as i32))
                .collect(),
            settings,
            training,
            target,
            vocabulary,
            ids,
            target_head,
            parameters,
            device: device.clone(),
        })
    }

    /// Scales the first weights of `fc` to what the target's hidden states are like: each of the three layers then counts the
    /// same, and their mix is of about unit size. States of deeper layers are many times as large, and what attention and
    /// feed-forward add to them would be lost at first. Call it before training, with a few examples' features; it says how
    /// large each layer's states are, by the median over positions: the first of a text may be a thousand times as large.
    ///
    /// # Errors
    /// If the features are not of the target, or hold no positive numbers.
    pub fn calibrate(&mut self, samples: &[Features]) -> Result<[f32; 3]> {
        let h = self.settings.hidden_size;
        let mut sizes: [Vec<f32>; 3] = Default::default();
        for states in samples
            .iter()
            .flat_map(|features| features.aux.chunks_exact(3 * h))
        {
            for (state, sizes) in states.chunks_exact(h).zip(&mut sizes) {
                let squares: f32 = state.iter().map(|x| x * x).sum();
                sizes.push((squares / h as f32).sqrt());
            }
        }
        let medians = sizes.map(|mut sizes| {
            sizes.sort_by(f32::total_cmp);
            sizes.get(sizes.len() / 2).copied().unwrap_or(0.0)
        });
        if !medians.iter().all(|size| *size > 0.0 && size.is_finite()) {
            return Err(Error::Invalid(format!(
                "hidden states of sizes {medians:?} are nothing to learn from"
            )));
        }
        let scales = medians
            .iter()
            .flat_map(|size| std::iter::repeat_n(size.recip(), h));
        let scales = matrix(scales.collect(), [3 * h, 1], &self.device);
        if let Some(fc) = self.parameters.iter_mut().next() {
            fc.value.inplace(|value| value * scales);
        }
        Ok(medians)
    }

    /// Sizes.
    pub fn layer(&self) -> &EagleSettings {
        &self.settings
    }

    /// Tokens of the target that the layer can guess, rising.
    pub fn vocabulary(&self) -> &[u32] {
        &self.vocabulary
    }

    /// Logits over the draft vocabulary at every position of an example from the target's true hidden states,
    /// `[tokens - 1, draft_vocab_size]`: position t guesses token t + 2.
    ///
    /// # Errors
    /// As [`Learner::learn`].
    pub fn logits(&self, example: &Example, features: &Features) -> Result<Vec<f32>> {
        let h = self.settings.hidden_size;
        features.check(example, h, self.target.config.vocab_size)?;
        let keys = example.tokens.len().saturating_sub(1);
        if keys == 0 {
            return Ok(Vec::new());
        }
        let inputs = self.inputs(
            example,
            features,
            [(0..keys).collect(), Vec::new()],
            keys,
            1,
        );
        let (layer, head) = split(self.parameters.constants())?;
        let rope = Rope::new(&self.settings, keys, &self.device);
        let outputs =
            Layer::new(&self.settings, self.parameters.precision(), &layer).run(&inputs, &rope);
        let precision = self.parameters.precision();
        let logits = precision.product(Tensor::cat(outputs, 0), head.transpose());
        crate::parameters::read(logits)
    }

    /// Whether a position of an example is computed past step 0 in training: drawn, but always the same.
    fn goes_on(&self, example: &Example) -> impl Fn(usize) -> bool + use<> {
        let share = self.training.later_share;
        let text = fingerprint(&example.tokens);
        move |t| share >= 1.0 || Random::new(text, t as u64).unit() < share
    }

    fn inputs(
        &self,
        example: &Example,
        features: &Features,
        [rows, later]: [Vec<usize>; 2],
        keys: usize,
        steps: usize,
    ) -> Inputs {
        let h = self.settings.hidden_size;
        let aux = features.aux[..keys * 3 * h].to_vec();
        // Rows at the end of an example look past it at steps at which they learn nothing.
        let past = std::iter::repeat(0);
        let tokens = example.tokens[1..].iter().copied().chain(past);
        let count = keys + steps - 1;
        let embeddings = crate::vocabulary::rows(&self.target.embedding, h, tokens.take(count));
        Inputs {
            aux: matrix(aux, [keys, 3 * h], &self.device),
            embeddings: matrix(embeddings, [count, h], &self.device),
            rows,
            later,
            steps,
        }
    }

    /// Runs an example with the given weights; `None` if there is nothing to learn of it. The scores are of all
    /// positions that count, step after step.
    fn score(
        &self,
        example: &Example,
        features: &Features,
        weights: Vec<Tensor<2>>,
        asks: Asks<'_>,
    ) -> Result<(Vec<Measure>, Option<Scored>)> {
        let h = self.settings.hidden_size;
        features.check(example, h, self.target.config.vocab_size)?;
        let steps = self.training.steps;
        let positions = match asks {
            Asks::Ranks => Positions::of(example, steps, &self.ids, &|_| true),
            Asks::Gradients(goes_on) => Positions::of(example, steps, &self.ids, goes_on),
        };
        let measure = |step: &Step| Measure {
            positions: step.asked,
            ..Measure::default()
        };
        let mut measures: Vec<Measure> = positions.steps.iter().map(measure).collect();
        if positions.rows.is_empty() {
            return Ok((measures, None));
        }
        let precision = self.parameters.precision();
        let last = rows(
            &features.last,
            h,
            positions.targets.iter().map(|&t| t as u32),
        );
        let last = matrix(last, [positions.targets.len(), h], &self.device);
        let (probabilities, best) = distributions(last, &self.target_head, precision)?;
        let keys = positions.keys;
        let inputs = self.inputs(
            example,
            features,
            [positions.rows, positions.later],
            keys,
            steps,
        );
        let (layer, head) = split(weights)?;
        let rope = Rope::new(&self.settings, keys + steps, &self.device);
        let outputs =
            Layer::new(&self.settings, self.parameters.precision(), &layer).run(&inputs, &rope);
        let (mut of, mut factors, mut counted) = (Vec::new(), Vec::new(), Vec::new());
        let all = positions.steps.iter().zip(&self.weights).enumerate();
        for (x, (i, (step, weight))) in outputs.into_iter().zip(all) {
            if !step.rows.is_empty() {
                counted.push(x.select(0, indices(&step.rows, &self.device)));
                of.extend_from_slice(&step.targets);
                let share = if i == 0 {
                    1.0
                } else {
                    self.training.later_share
                };
                factors.resize(of.len(), (weight / share) as f32);
            }
        }
        let goals = Goals::Soft {
            probabilities: &probabilities,
            best: &best,
            rows: &of,
        };
        let asked = match asks {
            Asks::Ranks => Asked::Ranks,
            Asks::Gradients(_) => Asked::Gradients {
                factors,
                head: true,
            },
        };
        let scored = cross_entropy(Tensor::cat(counted, 0), &head, &goals, &asked, precision)?;
        let mut start = 0;
        for (step, measure) in positions.steps.iter().zip(&mut measures) {
            scored.measure(start..start + step.rows.len(), measure);
            start += step.rows.len();
        }
        Ok((measures, Some(scored)))
    }
}

impl Learner for EagleLearner {
    fn settings(&self) -> Value {
        json!({
            "kind": "eagle3",
            "layer": self.settings,
            "training": self.training,
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
        let goes_on = self.goes_on(example);
        let (leaves, weights) = self.parameters.leaves();
        let (measures, scored) =
            self.score(example, features, weights, Asks::Gradients(&goes_on))?;
        let Some(scored) = scored else {
            return Ok((measures, None));
        };
        let head = scored.head.into_iter().collect();
        let gradients = backward(scored.outputs, scored.known, leaves, head)?;
        Ok((measures, Some(gradients)))
    }

    fn evaluate(&self, example: &Example, features: &Features) -> Result<Vec<Measure>> {
        let constants = self.parameters.constants();
        Ok(self.score(example, features, constants, Asks::Ranks)?.0)
    }
}

/// What is asked of an example.
#[derive(Clone, Copy)]
enum Asks<'a> {
    /// Gradients, past step 0 of the positions that go on.
    Gradients(&'a dyn Fn(usize) -> bool),
    /// Ranks of the tokens to guess, of all positions.
    Ranks,
}

/// The layer's weights and the head's.
fn split(mut weights: Vec<Tensor<2>>) -> Result<([Tensor<2>; 12], Tensor<2>)> {
    let head = weights.pop();
    let layer = weights.try_into().ok();
    let both = layer.zip(head);
    both.ok_or_else(|| Error::Invalid("an EAGLE-3 layer has 13 parameters".to_owned()))
}

#[cfg(test)]
mod tests;
