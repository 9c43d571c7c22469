use super::drafter::DraftModel;
use super::eagle::{Eagle, EagleOptions};
use super::medusa::Medusa;
use super::ngram::Ngram;
use super::small_model::SmallModel;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::model::ModelConfig;
use crate::text::Text;
use std::sync::Arc;

/// What an engine drafts with, before it is joined to a target: a checkpoint, or the text itself.
#[derive(Debug)]
pub struct Draft {
    /// `None` looks in prompt and output for what followed before.
    source: Option<(Kind, Checkpoint)>,
}

/// What a checkpoint's tensors say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Medusa,
    Eagle,
    SmallModel,
}

/// A way to read a draft, and what it is in words.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub model: Arc<dyn DraftModel>,
    pub description: String,
}

impl Draft {
    /// `ngram`, or a checkpoint: Medusa heads, an EAGLE head, or a small model. Directory, GGUF file, or the id of a model
    /// that the hub's cache holds. The kind is read off the tensors.
    ///
    /// # Errors
    /// If the checkpoint is not there or its files contradict their format.
    pub fn open(spec: &str) -> Result<Self> {
        if spec == "ngram" {
            return Ok(Draft { source: None });
        }
        let checkpoint = Checkpoint::open_draft(spec)?;
        let source = if Medusa::recognises(&checkpoint) {
            (Kind::Medusa, checkpoint)
        } else if Eagle::recognises(&checkpoint) {
            (Kind::Eagle, checkpoint)
        } else {
            // A model of its own has its tensors where models have them.
            (Kind::SmallModel, Checkpoint::open_named(spec)?)
        };
        Ok(Draft {
            source: Some(source),
        })
    }

    /// Where weights of the draft come from.
    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.source.as_ref().map(|(_, checkpoint)| checkpoint)
    }

    /// The ways in which it can be read, the likeliest first.
    ///
    /// # Errors
    /// If it does not fit the target, whose tokenizer is `text`.
    pub(crate) fn ways(
        &self,
        target: &ModelConfig,
        text: Option<&Text>,
        options: &EagleOptions,
    ) -> Result<Vec<Way>> {
        let one = |model: Arc<dyn DraftModel>, description| Ok(vec![Way { model, description }]);
        match &self.source {
            None => one(Arc::new(Ngram), "ngram, over prompt and output".to_owned()),
            Some((Kind::Medusa, checkpoint)) => {
                let medusa = Medusa::read(checkpoint, target)?;
                let description = medusa.inferred();
                one(Arc::new(medusa), description)
            }
            Some((Kind::Eagle, checkpoint)) => {
                let ways = Eagle::read(checkpoint, target, options)?.into_iter();
                let way = |eagle: Eagle| Way {
                    description: eagle.inferred(),
                    model: Arc::new(eagle),
                };
                Ok(ways.map(way).collect())
            }
            Some((Kind::SmallModel, checkpoint)) => {
                let model = SmallModel::read(checkpoint, text)?;
                let description = model.inferred();
                one(Arc::new(model), description)
            }
        }
    }
}
