use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use stheno::model::ModelConfig;

/// Sizes of an EAGLE-3 layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EagleSettings {
    /// Width, the target's.
    pub hidden_size: usize,
    /// Heads of q.
    pub num_attention_heads: usize,
    /// Heads of k and of v.
    pub num_key_value_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// Base of the rotation.
    pub rope_theta: f64,
    /// Tokens that it can guess.
    pub draft_vocab_size: usize,
    /// Layers of the target whose outputs it is fed, counted from 0, low to high.
    pub aux_layers: [u32; 3],
}

impl EagleSettings {
    /// The target's sizes, which is what published layers have. The rotation's base is 10000 whatever the target's is: that
    /// is the one value that all loaders agree on, as most trainers use it without saying so. The layers fed are the
    /// usual ones, outputs 1, L/2 - 1 and L - 4; a target of fewer than five layers feeds its first, middle and last.
    pub fn of(target: &ModelConfig, draft_vocab_size: usize) -> Self {
        let layers = target.num_hidden_layers.max(1);
        EagleSettings {
            hidden_size: target.hidden_size as usize,
            num_attention_heads: target.num_attention_heads as usize,
            num_key_value_heads: target.num_key_value_heads as usize,
            head_dim: target.head_dim as usize,
            intermediate_size: target.intermediate_size as usize,
            rms_norm_eps: target.rms_norm_eps,
            rope_theta: 10_000.0,
            draft_vocab_size,
            aux_layers: match layers {
                5.. => [1, layers / 2 - 1, layers - 4],
                _ => [0, (layers - 1) / 2, layers - 1],
            },
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let sizes = [
            self.hidden_size,
            self.num_attention_heads,
            self.num_key_value_heads,
            self.head_dim,
            self.intermediate_size,
            self.draft_vocab_size,
        ];
        let divides = |a: usize, b: usize| a.is_multiple_of(b);
        if sizes.contains(&0)
            || !divides(self.num_attention_heads, self.num_key_value_heads)
            || !divides(self.head_dim, 2)
        {
            return Err(Error::Invalid(format!(
                "no layer has such sizes: {} heads of {}, {} KV heads, widths {} and {}, {} tokens",
                self.num_attention_heads,
                self.head_dim,
                self.num_key_value_heads,
                self.hidden_size,
                self.intermediate_size,
                self.draft_vocab_size
            )));
        }
        Ok(())
    }
}

/// How it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EagleTraining {
    /// Steps of the training-time test: how many tokens ahead the layer learns to guess on its own outputs.
    pub steps: usize,
    /// Weight of step i is this to the power of i.
    pub decay: f64,
    /// Share of positions that are computed past step 0, drawn for each example; their losses weigh as much more. What the
    /// steps of one position teach is much alike, so that a small share sees more text in the same time.
    pub later_share: f64,
    /// Whether the head begins as the target's rows of the draft vocabulary and the final norm as the target's; otherwise
    /// they begin at random and at 1.
    pub head_from_target: bool,
}

impl Default for EagleTraining {
    fn default() -> Self {
        EagleTraining {
            steps: 4,
            decay: 0.8,
            later_share: 1.0,
            head_from_target: true,
        }
    }
}
