//! Medusa heads: each guesses one of the next positions from the last hidden state (Cai et al., 2024).

mod drafter;
mod layout;

use super::drafter::{DraftModel, Drafter};
use super::target_head;
use crate::checkpoint::Checkpoint;
use crate::device::{DeviceDrafter, Guesses};
use crate::model::{Emitter, Features, ModelConfig, PlanOptions};
use crate::speculation::{Policy, SpeculationOptions};
use crate::{Error, Result};
use drafter::MedusaDrafter;
use layout::Layout;
use std::path::PathBuf;
use stheno_codegen::plan::{
    Activation, DRAFT_PREFIX, Dim, DraftDecl, Epilogue, KvDecl, PlanBuilder, Segment, SegmentKind,
};

/// Heads, as their checkpoint has them.
#[derive(Debug)]
pub(super) struct Medusa {
    layout: Layout,
    path: PathBuf,
}

impl Medusa {
    /// Whether a checkpoint holds such heads.
    pub fn recognises(checkpoint: &Checkpoint) -> bool {
        Layout::recognises(checkpoint)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// If it is no such checkpoint, or does not fit the target.
    pub fn read(checkpoint: &Checkpoint, target: &ModelConfig) -> Result<Self> {
        let layout = Layout::read(checkpoint)?;
        let path = checkpoint.path().to_owned();
        let fail = |reason: String| {
            let path = path.display();
            Err(Error::Invalid(format!("the draft {path} {reason}")))
        };
        if layout.hidden_size != target.hidden_size {
            return fail(format!(
                "was made for a model of hidden_size {}, this one has {}",
                layout.hidden_size, target.hidden_size
            ));
        }
        let guesses = match &layout.target_ids {
            Some(ids) => ids.iter().copied().max().map(|id| u64::from(id) + 1),
            None => layout.vocab_size.map(u64::from),
        };
        if guesses.is_some_and(|most| most > u64::from(target.vocab_size)) {
            return fail(format!(
                "guesses at a vocabulary of {}, the model's has {}",
                guesses.unwrap_or(0),
                target.vocab_size
            ));
        }
        Ok(Medusa { layout, path })
    }

    /// Heads of one block, as Medusa-1 has them, without a checkpoint.
    ///
    /// # Errors
    /// If there are none or too many.
    pub fn random(heads: u32, own_matrices: bool, target: &ModelConfig) -> Result<Self> {
        let layout = Layout::random(heads, own_matrices, target)?;
        let path = PathBuf::from(layout.name);
        Ok(Medusa { layout, path })
    }

    /// What was inferred, for people.
    pub fn inferred(&self) -> String {
        let layout = &self.layout;
        let head = &layout.heads[0];
        let mut text = format!(
            "medusa, {}: {} heads of {} block{}{}, ",
            layout.name,
            layout.heads.len(),
            head.blocks.len(),
            if head.blocks.len() == 1 { "" } else { "s" },
            if head.bias { " with bias" } else { "" },
        );
        text += &match layout.vocab_size {
            Some(size) => format!("matrices of {size} tokens"),
            None => "the model's own head".to_owned(),
        };
        if layout.with_target {
            text += "; they were trained together with the model in the same checkpoint, which -m should name too";
        }
        text
    }
}

impl DraftModel for Medusa {
    fn kind(&self) -> &'static str {
        "medusa"
    }

    fn on_device(&self) -> DeviceDrafter {
        DeviceDrafter::Heads
    }

    fn deepest(&self) -> Option<u32> {
        Some(self.layout.heads.len() as u32)
    }

    fn features(&self) -> Features {
        Features::Final
    }

    fn guesses(&self) -> Guesses {
        Guesses {
            target_ids: self.layout.target_ids.clone(),
            logit_scale: self.layout.logit_scale,
        }
    }

    fn check(&self, options: &SpeculationOptions) -> Result<()> {
        let heads = self.layout.heads.len() as u32;
        let deepest = match (&options.choices, options.policy) {
            (Some(choices), _) => choices.depth(),
            (None, Policy::Fixed(shape)) => shape.num_steps,
            (None, Policy::Automatic | Policy::Off) => 1,
        };
        if deepest > heads {
            return Err(Error::Invalid(format!(
                "a tree of {deepest} levels; the draft {} has {heads} heads, one for each level",
                self.path.display()
            )));
        }
        Ok(())
    }

    fn declare(
        &self,
        target: &ModelConfig,
        options: &PlanOptions,
        builder: &mut PlanBuilder,
    ) -> Result<()> {
        let hidden = target.hidden_size;
        builder.draft(DraftDecl {
            kind: self.kind().to_owned(),
            kv: KvDecl {
                layers: 0,
                num_key_value_heads: target.num_key_value_heads,
                head_dim: target.head_dim,
                dtype: options.precision.kv,
            },
            vocab_size: target.vocab_size,
        });
        let features = builder.buffer("features", options.precision.buffer(), Dim::Rows, hidden);
        let mut emit = Emitter {
            builder,
            precision: options.precision,
            prefix: DRAFT_PREFIX,
            eps: 0.0,
            ops: Vec::new(),
        };
        let last = emit.buffer("features.output", Dim::OutputRows, hidden);
        emit.gather(features, last);
        let mut outputs = Vec::new();
        for (i, head) in self.layout.heads.iter().enumerate() {
            let x = emit.buffer(&format!("head.{i}"), Dim::OutputRows, hidden);
            emit.copy(last, None, x, 0);
            for (j, block) in head.blocks.iter().enumerate() {
                // x + silu(W x + b): the product reads a copy, since x is written.
                let input = match j {
                    0 => last,
                    _ => {
                        let copy = emit.buffer("head.input", Dim::OutputRows, hidden);
                        emit.copy(x, None, copy, 0);
                        copy
                    }
                };
                let part = emit.part(block, hidden, hidden, head.bias);
                let add = Epilogue::Residual {
                    residual: x,
                    activation: Some(Activation::Silu),
                };
                emit.linear(input, None, vec![part], add);
            }
            let vocab_size = self.layout.vocab_size.unwrap_or(target.vocab_size);
            let matrix = match &head.lm_head {
                Some(name) => emit.matrix(name, vocab_size, hidden),
                None => target_head(target, emit.builder),
            };
            let logits = emit.logits_buffer(&format!("logits.{i}"), vocab_size);
            emit.logits(x, None, matrix, logits);
            outputs.push(logits);
        }
        let ops = emit.ops;
        builder.segment(Segment {
            kind: SegmentKind::Draft,
            max_rows: options.max_rows,
            inputs: vec![features],
            outputs,
            ops,
        });
        Ok(())
    }

    fn start(&self) -> Box<dyn Drafter> {
        let layout = &self.layout;
        Box::new(MedusaDrafter::new(
            layout.heads.len(),
            layout.hidden_size as usize,
            layout.logit_scale,
            layout.target_ids.clone(),
        ))
    }
}
