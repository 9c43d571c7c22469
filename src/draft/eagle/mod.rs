//! EAGLE heads: one layer that guesses the target's next hidden state and token from those before (EAGLE-1 and -2: Li et
//! al., 2024; EAGLE-3: Li et al., 2025).

mod drafter;
mod layout;
mod probe;
mod segment;

use super::drafter::{DraftModel, Drafter};
use crate::checkpoint::Checkpoint;
use crate::device::{DeviceDrafter, Guesses};
use crate::engine::Engine;
use crate::model::{Features, ModelConfig, PlanOptions};
use crate::{Error, Result};
use drafter::EagleDrafter;
use layout::{Layout, Version};
use std::path::Path;
use std::sync::Arc;
use stheno_codegen::plan::{DraftDecl, KvDecl, PlanBuilder, SegmentKind};

/// A head, with what its checkpoint leaves open decided.
#[derive(Debug, Clone)]
pub(super) struct Eagle {
    layout: Arc<Layout>,
    rope_theta: f64,
    /// Layers of the target whose outputs are fed, counted from 0; none for EAGLE-1.
    layers: Vec<u32>,
}

/// What a user may decide in place of the checkpoint and the probe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EagleOptions {
    /// Base of the draft's rotation.
    pub rope_theta: Option<f64>,
    /// Layers of the target whose outputs are fed, counted from 0.
    pub aux_layers: Option<Vec<u32>>,
}

impl Eagle {
    /// Whether a checkpoint is such a head.
    pub fn recognises(checkpoint: &Checkpoint) -> bool {
        Layout::recognises(checkpoint)
    }

    /// The ways in which a checkpoint can be read, the likeliest first. Configurations are wrong about two things: the base
    /// of the rotation, which most trainers take as 10000 whatever they write (trap 1), and whether layers are counted by
    /// their inputs or their outputs (trap 4).
    ///
    /// # Errors
    /// If the checkpoint is no such head, or does not fit the target.
    pub fn read(
        checkpoint: &Checkpoint,
        target: &ModelConfig,
        options: &EagleOptions,
    ) -> Result<Vec<Self>> {
        let layout = Arc::new(Layout::read(checkpoint)?);
        let path = checkpoint.path();
        fits(&layout, target, path)?;
        let trained = 10_000.0;
        let said = layout.config.rope_theta;
        let thetas = match options.rope_theta {
            Some(theta) => vec![theta],
            None if layout.version == Version::Three
                && layout.names_rope_theta
                && said != trained =>
            {
                vec![said, trained]
            }
            None => vec![said],
        };
        let mut ways = Vec::new();
        for layers in fed_layers(&layout, target, options, path)? {
            for &rope_theta in &thetas {
                ways.push(Eagle {
                    layout: Arc::clone(&layout),
                    rope_theta,
                    layers: layers.clone(),
                });
            }
        }
        Ok(ways)
    }

    /// An EAGLE-3 layer of the target's sizes without a checkpoint; it guesses at `vocab_size` tokens, or at all if the target
    /// has fewer.
    pub fn random(vocab_size: u32, target: &ModelConfig) -> Self {
        let layout = Layout::random(vocab_size, target);
        Eagle {
            rope_theta: layout.config.rope_theta,
            layers: usual_layers(target).unwrap_or_else(|| vec![0; 3]),
            layout: Arc::new(layout),
        }
    }

    /// What was inferred, for people.
    pub fn inferred(&self) -> String {
        let layout = &self.layout;
        let config = &layout.config;
        let mut text = format!(
            "{}, {} layer{}, {} heads of {}, {} KV heads, rope theta {}",
            self.kind(),
            layout.layers.len(),
            if layout.layers.len() == 1 { "" } else { "s" },
            config.num_attention_heads,
            config.head_dim,
            config.num_key_value_heads,
            self.rope_theta
        );
        if layout.version == Version::Three {
            let layers: Vec<String> = self.layers.iter().map(u32::to_string).collect();
            let vocab_size = layout.draft_vocab_size;
            text += &format!(
                ", fed the outputs of layers {}, draft vocabulary {vocab_size}",
                layers.join(", ")
            );
        }
        for (is, words) in [
            (layout.fc_bias, "fc bias"),
            (layout.qkv_bias, "q/k/v bias"),
            (layout.norm_before_residual, "norm before residual"),
            (!layout.fc_norms.is_empty(), "norms before fc"),
            (layout.norm_output, "normed feedback"),
        ] {
            if is {
                text += ", ";
                text += words;
            }
        }
        text
    }
}

/// Refuses a head for another model.
fn fits(layout: &Layout, target: &ModelConfig, path: &Path) -> Result<()> {
    let fail = |reason: String| {
        Err(Error::Invalid(format!(
            "the draft {} {reason}",
            path.display()
        )))
    };
    if layout.target_hidden_size != target.hidden_size {
        return fail(format!(
            "was made for a model of hidden_size {}, this one has {}",
            layout.target_hidden_size, target.hidden_size
        ));
    }
    let most = match &layout.target_ids {
        Some(ids) => ids.iter().copied().max().map_or(0, |id| u64::from(id) + 1),
        None => u64::from(layout.draft_vocab_size),
    };
    if most > u64::from(target.vocab_size) {
        return fail(format!(
            "guesses token ids up to {}, the model's vocabulary has {}",
            most - 1,
            target.vocab_size
        ));
    }
    let same_width = layout.config.hidden_size == target.hidden_size;
    if !same_width && (layout.version == Version::One || layout.embedding.is_none()) {
        return fail(format!(
            "has hidden_size {} and no embedding of its own, the model's has {} columns",
            layout.config.hidden_size, target.hidden_size
        ));
    }
    Ok(())
}

/// The three layers that heads are fed if nothing else is said; `None` of a model with too few.
fn usual_layers(target: &ModelConfig) -> Option<Vec<u32>> {
    let count = target.num_hidden_layers;
    (count >= 5).then(|| vec![1, count / 2 - 1, count - 4])
}

/// The sets of layers that a head may mean.
fn fed_layers(
    layout: &Layout,
    target: &ModelConfig,
    options: &EagleOptions,
    path: &Path,
) -> Result<Vec<Vec<u32>>> {
    if layout.version == Version::One {
        return Ok(vec![Vec::new()]);
    }
    let count = target.num_hidden_layers;
    let fits = |layers: &Vec<u32>| {
        layers.len() as u32 == layout.inputs && layers.iter().all(|layer| *layer < count)
    };
    if let Some(layers) = &options.aux_layers {
        if !fits(layers) {
            return Err(Error::Invalid(format!(
                "the draft {} is fed {} layers of a model of {count}, counted from 0; got {layers:?}",
                path.display(),
                layout.inputs
            )));
        }
        return Ok(vec![layers.clone()]);
    }
    let usual = usual_layers(target).filter(|layers| layers.len() as u32 == layout.inputs);
    let mut ways: Vec<Vec<u32>> = match &layout.aux_layers {
        None => usual.into_iter().collect(),
        Some(said) => {
            // Read as inputs, layer i is fed the output of the one before.
            let before: Option<Vec<u32>> = said.iter().map(|l| l.checked_sub(1)).collect();
            let as_outputs = Some(said.clone());
            // The usual layers say by themselves how they were counted.
            let ways = match before == usual {
                true => [before, as_outputs],
                false => [as_outputs, before],
            };
            ways.into_iter().flatten().collect()
        }
    };
    ways.retain(fits);
    if ways.is_empty() {
        return Err(Error::Invalid(format!(
            "the draft {} does not say which {} layers of the model it is fed; say it with --draft-aux-layers",
            path.display(),
            layout.inputs
        )));
    }
    Ok(ways)
}

impl DraftModel for Eagle {
    fn kind(&self) -> &'static str {
        match self.layout.version {
            Version::One => "eagle",
            Version::Three => "eagle3",
        }
    }

    fn on_device(&self) -> DeviceDrafter {
        DeviceDrafter::Layer
    }

    fn features(&self) -> Features {
        match self.layout.version {
            Version::One => Features::Final,
            Version::Three => Features::Layers(self.layers.clone()),
        }
    }

    fn guesses(&self) -> Guesses {
        Guesses {
            target_ids: self.layout.target_ids.clone(),
            ..Guesses::default()
        }
    }

    fn declare(
        &self,
        target: &ModelConfig,
        options: &PlanOptions,
        builder: &mut PlanBuilder,
    ) -> Result<()> {
        let config = &self.layout.config;
        builder.draft(DraftDecl {
            kind: self.kind().to_owned(),
            kv: KvDecl {
                layers: self.layout.layers.len() as u32,
                num_key_value_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
                dtype: options.precision.kv,
            },
            vocab_size: target.vocab_size,
        });
        let kinds = [
            (SegmentKind::DraftPrefill, options.max_prefill_rows),
            (SegmentKind::Extend, options.max_rows),
            (SegmentKind::Draft, options.max_rows),
        ];
        for (kind, max_rows) in kinds {
            let segment = self.segment(kind, max_rows, target, options, builder)?;
            builder.segment(segment);
        }
        Ok(())
    }

    fn agreement(&self, engine: &Engine, tokens: &[u32]) -> Result<f64> {
        probe::agreement(engine, self.layout.target_ids.as_deref(), tokens)
    }

    fn start(&self) -> Box<dyn Drafter> {
        let layout = &self.layout;
        let columns = self.features().columns(layout.target_hidden_size) as usize;
        Box::new(EagleDrafter::new(columns, layout.target_ids.clone()))
    }
}
