use super::drafter::DraftModel;
use super::eagle::{Eagle, EagleOptions};
use super::medusa::Medusa;
use super::ngram::Ngram;
use super::small_model::SmallModel;
use crate::checkpoint::Checkpoint;
use crate::model::ModelConfig;
use crate::text::Text;
use crate::{Error, Result};
use std::sync::Arc;

/// What an engine drafts with, before it is joined to a target: a checkpoint, or the text itself.
#[derive(Debug)]
pub struct Draft {
    /// `None` looks in prompt and output for what followed before.
    source: Option<(Kind, Checkpoint)>,
    /// Whether lookup takes turns with the checkpoint.
    lookup: bool,
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
    /// Whether lookup takes turns with it.
    pub lookup: bool,
    pub description: String,
}

impl Draft {
    /// `ngram`, or a checkpoint: Medusa heads, an EAGLE head, or a small model. Directory, GGUF file, or the id of a model
    /// that the hub's cache holds. The kind is read off the tensors. `ngram+CHECKPOINT` is both: rounds in which what followed
    /// before promises more than the checkpoint has come to are drafted from the text.
    ///
    /// # Errors
    /// If the checkpoint is not there or its files contradict their format.
    pub fn open(spec: &str) -> Result<Self> {
        if spec == "ngram" {
            return Ok(Draft {
                source: None,
                lookup: false,
            });
        }
        if let Some(other) = spec.strip_prefix("ngram+") {
            if other.is_empty() || other == "ngram" || other.starts_with("ngram+") {
                return Err(Error::Invalid(format!(
                    "the draft {spec} names no other beside lookup; name one after the plus, or ngram alone"
                )));
            }
            return Ok(Draft {
                lookup: true,
                ..Draft::open(other)?
            });
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
            lookup: false,
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
        let way = |model: Arc<dyn DraftModel>, description: String| Way {
            model,
            lookup: self.lookup,
            description: match self.lookup {
                true => format!("ngram over prompt and output, or {description}"),
                false => description,
            },
        };
        Ok(match &self.source {
            None => {
                let description = "ngram, over prompt and output".to_owned();
                vec![way(Arc::new(Ngram), description)]
            }
            Some((Kind::Medusa, checkpoint)) => {
                let medusa = Medusa::read(checkpoint, target)?;
                let description = medusa.inferred();
                vec![way(Arc::new(medusa), description)]
            }
            Some((Kind::Eagle, checkpoint)) => {
                let eagles = Eagle::read(checkpoint, target, options)?.into_iter();
                let eagle = |eagle: Eagle| {
                    let description = eagle.inferred();
                    way(Arc::new(eagle), description)
                };
                eagles.map(eagle).collect()
            }
            Some((Kind::SmallModel, checkpoint)) => {
                let model = SmallModel::read(checkpoint, text)?;
                let description = model.inferred();
                vec![way(Arc::new(model), description)]
            }
        })
    }
}
