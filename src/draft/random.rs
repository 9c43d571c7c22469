//! Drafts of a model's sizes without a checkpoint, for programs that measure.

use super::drafter::DraftModel;
use super::eagle::Eagle;
use super::medusa::Medusa;
use crate::Result;
use crate::device::Guesses;
use crate::model::{ModelConfig, PlanOptions, target_plan};
use stheno_codegen::plan::Plan;

/// What a draft is made of; its weights are those of [`crate::model::RandomWeights`] for its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RandomDraft {
    /// Medusa-1 heads of one residual block each.
    Heads {
        /// How many, 1 to 63.
        heads: u32,
        /// Whether each has a matrix of its own over the vocabulary; they share the target's head otherwise.
        own_matrices: bool,
    },
    /// An EAGLE-3 layer of the target's sizes, fed three of the target's hidden states.
    Layer {
        /// Tokens that it guesses at; all of the target's if that has fewer.
        vocab_size: u32,
    },
}

impl RandomDraft {
    /// The plan of a target with this draft, and what the draft's logits stand for. What the options say of features is
    /// replaced by what the draft is fed.
    ///
    /// # Errors
    /// Those of [`crate::model::build_plan`], and if a draft has no heads or too many.
    pub fn plan(&self, target: &ModelConfig, options: &PlanOptions) -> Result<(Plan, Guesses)> {
        let model: Box<dyn DraftModel> = match *self {
            RandomDraft::Heads {
                heads,
                own_matrices,
            } => Box::new(Medusa::random(heads, own_matrices, target)?),
            RandomDraft::Layer { vocab_size } => Box::new(Eagle::random(vocab_size, target)),
        };
        let options = PlanOptions {
            features: model.features(),
            ..options.clone()
        };
        let mut builder = target_plan(target, &options)?;
        model.declare(target, &options, &mut builder)?;
        Ok((builder.finish()?, model.guesses()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ActivationDtype, NamedModel, Precision};
    use stheno_codegen::plan::{SegmentKind, WeightShape};

    fn plan(draft: RandomDraft, model: &str, layers: u32) -> Result<(Plan, Guesses)> {
        let target = NamedModel::find(model)?.config(Some(layers))?;
        let options = PlanOptions::new(64, Precision::new(ActivationDtype::Mixed));
        draft.plan(&target, &options)
    }

    fn matrices(plan: &Plan) -> Vec<(u32, u32)> {
        let drafts = plan.weights.iter().filter(|w| w.name.starts_with("draft."));
        let shapes = drafts.filter_map(|weight| match weight.shape {
            WeightShape::Matrix { n, k } => Some((n, k)),
            WeightShape::Vector { .. } => None,
        });
        shapes.collect()
    }

    #[test]
    fn heads_have_a_block_each_and_perhaps_a_matrix() {
        let heads = |heads, own_matrices| RandomDraft::Heads {
            heads,
            own_matrices,
        };
        let (shared, _) = plan(heads(4, false), "tiny", 1).unwrap();
        assert_eq!(matrices(&shared), [(256, 256); 4]);
        let draft = shared.segment(SegmentKind::Draft).unwrap();
        assert_eq!(draft.outputs.len(), 4);
        let (own, _) = plan(heads(2, true), "tiny", 1).unwrap();
        assert_eq!(
            matrices(&own),
            [(256, 256), (512, 256), (256, 256), (512, 256)]
        );
        for count in [0, 64] {
            let error = plan(heads(count, true), "tiny", 1).unwrap_err();
            assert!(error.to_string().contains("1 to 63 heads"), "{error}");
        }
    }

    #[test]
    fn a_layer_guesses_at_tokens_that_the_target_has() {
        for (model, layers, expected) in [("tiny", 2, 512), ("smollm2-135m", 6, 32000)] {
            let draft = RandomDraft::Layer { vocab_size: 32000 };
            let (plan, guesses) = plan(draft, model, layers).unwrap();
            let logits = plan.buffer_named("draft.logits").unwrap();
            assert_eq!(plan.buffer(logits).columns, expected);
            let hidden = matrices(&plan)[0].0;
            assert!(matrices(&plan).contains(&(hidden, 3 * hidden)), "{model}");
            let Some(ids) = guesses.target_ids else {
                assert_eq!(expected, plan.vocab_size);
                continue;
            };
            assert_eq!(ids.len() as u32, expected);
            assert!(ids.is_sorted_by(|a, b| a < b));
            assert!(ids.iter().all(|id| *id < plan.vocab_size));
        }
    }
}
