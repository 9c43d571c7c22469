//! How logits of a draft are read.

use crate::{Error, Result};
use std::sync::Arc;
use stheno_codegen::program::DeviceProgram;
use stheno_codegen::program::abi::{ChoosePhase, flags};

/// What logits of a draft stand for.
#[derive(Debug, Clone)]
pub struct Guesses {
    /// The target's id of each of the draft's; `None` if they are the same.
    pub target_ids: Option<Arc<[u32]>>,
    /// The draft's probabilities are those of its logits times this, a positive number.
    pub logit_scale: f32,
}

impl Default for Guesses {
    /// The target's ids, as they are.
    fn default() -> Self {
        Guesses {
            target_ids: None,
            logit_scale: 1.0,
        }
    }
}

impl Guesses {
    /// Whether a device can make lists of them.
    pub(super) fn check(&self, program: &DeviceProgram) -> Result<()> {
        let scale = self.logit_scale;
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Error::Unsupported(format!(
                "logits of a draft times {scale} on a device, which takes a positive scale"
            )));
        }
        let Some(ids) = &self.target_ids else {
            return Ok(());
        };
        let lists = program.phases.iter();
        let lists = lists.filter(|phase| phase.flags & flags::LISTS != 0);
        let mut columns = lists.map(|phase| phase.part::<ChoosePhase>().vocab_size as usize);
        match columns.find(|columns| *columns != ids.len()) {
            Some(columns) => Err(Error::Invalid(format!(
                "{} token ids for logits of {columns} tokens",
                ids.len()
            ))),
            None => Ok(()),
        }
    }
}
