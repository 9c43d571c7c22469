use super::RopeScaling;
use super::family::Family;
use super::normalize::{blame, normalize};
use super::rope::Rotation;
use crate::{Error, Result};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::path::Path;
use stheno_codegen::plan::{Activation, RopeDecl};

/// A model's `config.json` under its own key names, with everything that it leaves out filled in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ModelConfig {
    /// Classes that the checkpoint was saved from; the first known one decides the family.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// Decides the family where `architectures` is missing.
    #[serde(default)]
    pub model_type: Option<String>,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Width of the feed-forward.
    pub intermediate_size: u32,
    /// Layers.
    pub num_hidden_layers: u32,
    /// Heads of q.
    pub num_attention_heads: u32,
    /// Heads of k and of v; as many as of q if left out.
    pub num_key_value_heads: u32,
    /// Elements of a head; hidden_size / num_attention_heads if left out.
    pub head_dim: u32,
    /// Token ids.
    pub vocab_size: u32,
    /// Positions that the model was trained for.
    pub max_position_embeddings: u32,
    /// Added to the mean square in every norm.
    #[serde(default = "rms_norm_eps")]
    pub rms_norm_eps: f64,
    /// Non-linearity of the feed-forward.
    #[serde(default = "hidden_act")]
    pub hidden_act: String,
    /// Base of the rotation.
    pub rope_theta: f64,
    /// Scaling of the rotation; newer files keep it, and the base, in `rope_parameters`.
    pub rope_scaling: RopeScaling,
    /// Part of each head that is rotated.
    pub partial_rotary_factor: f64,
    /// Whether the head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether the attention's projections have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the feed-forward's projections have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Positions that a row sees in layers with a sliding window.
    #[serde(default)]
    pub sliding_window: Option<u32>,
    /// Qwen: whether there are such layers.
    #[serde(default)]
    pub use_sliding_window: bool,
    /// Qwen: the first of them, where `layer_types` does not say.
    #[serde(default)]
    pub max_window_layers: u32,
    /// `full_attention` or `sliding_attention` for each layer.
    #[serde(default)]
    pub layer_types: Option<Vec<String>>,
    /// Tokens that end an answer.
    #[serde(default, deserialize_with = "one_or_many")]
    pub eos_token_id: Vec<u32>,
}

fn rms_norm_eps() -> f64 {
    1e-6
}

fn hidden_act() -> String {
    "silu".to_owned()
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a token id or a list of them")]
    enum OneOrMany {
        One(u32),
        Many(Vec<u32>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(id) => vec![id],
        OneOrMany::Many(ids) => ids,
    })
}

impl ModelConfig {
    /// Reads a parsed `config.json`; `path` is for messages.
    ///
    /// Keys that a file leaves out get the values that transformers would give them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the architecture or an option is one that this version does not do, and
    /// [`Error::Malformed`] if the file contradicts itself or is out of bounds.
    pub fn from_json(json: &Value, path: &Path) -> Result<Self> {
        let malformed = |reason: String| Error::malformed(path, reason);
        let map = json
            .as_object()
            .ok_or_else(|| malformed("the configuration is no JSON object".to_owned()))?;
        let map = normalize(map, path)?;
        let config: Self = Self::deserialize(&map)
            .map_err(|error| malformed(blame::<Self>(&map, &error.to_string())))?;
        config.validate().map_err(malformed)?;
        config.activation()?;
        config
            .rotation()
            .and_then(|rotation| config.rope_scaling.declare(&rotation))
            .map_err(malformed)?;
        // Whatever the family refuses, before anyone loads a tokenizer or maps a weight for it.
        let family = Family::find(&config.architectures, config.model_type.as_deref())?;
        config.check_layer_types(&(family.decoder)(&config)?.windows)?;
        Ok(config)
    }

    /// Elements of q in one row.
    pub fn query_columns(&self) -> u32 {
        self.num_attention_heads * self.head_dim
    }

    /// Elements of k, and of v, in one row.
    pub fn key_value_columns(&self) -> u32 {
        self.num_key_value_heads * self.head_dim
    }

    /// Checks every number, so that sizes computed from them neither overflow nor exhaust memory on their own.
    pub(super) fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 22),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 13),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 13),
            ("head_dim", self.head_dim, 1 << 12),
            ("vocab_size", self.vocab_size, 1 << 24),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                (1 << 31) - 1,
            ),
        ];
        for (key, value, most) in bounds {
            if !(1..=most).contains(&value) {
                return Err(format!("`{key}` is {value}; there may be 1 to {most}"));
            }
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(format!(
                "`num_attention_heads` {heads} is no multiple of `num_key_value_heads` {kv_heads}"
            ));
        }
        if !(self.rms_norm_eps >= 0.0 && self.rms_norm_eps <= 1.0) {
            let eps = self.rms_norm_eps;
            return Err(format!("`rms_norm_eps` is {eps}; it must be in 0 to 1"));
        }
        if self.sliding_window == Some(0) {
            return Err("`sliding_window` is 0, so that a token would not see itself".to_owned());
        }
        let layers = self.num_hidden_layers as usize;
        match &self.layer_types {
            Some(types) if types.len() != layers => Err(format!(
                "`layer_types` has {} entries, `num_hidden_layers` is {layers}",
                types.len()
            )),
            _ => Ok(()),
        }
    }

    /// Non-linearity of the feed-forward.
    pub(crate) fn activation(&self) -> Result<Activation> {
        match self.hidden_act.as_str() {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            other => Err(Error::Unsupported(format!(
                "hidden_act {other:.100}; there are silu and gelu_pytorch_tanh"
            ))),
        }
    }

    /// Rotation of a plan with that many positions.
    pub(crate) fn rope(&self) -> Result<RopeDecl> {
        self.rotation()
            .and_then(|rotation| self.rope_scaling.declare(&rotation))
            .map_err(Error::Invalid)
    }

    fn rotation(&self) -> Result<Rotation, String> {
        let factor = self.partial_rotary_factor;
        // Truncated, as transformers does.
        let dims = (f64::from(self.head_dim) * factor) as u32;
        if !(factor > 0.0 && factor <= 1.0) || dims == 0 || !dims.is_multiple_of(2) {
            let head_dim = self.head_dim;
            return Err(format!(
                "`partial_rotary_factor` {factor} of `head_dim` {head_dim} is no positive even number of dims"
            ));
        }
        Ok(Rotation {
            theta: self.rope_theta,
            dims,
            max_position_embeddings: self.max_position_embeddings,
        })
    }

    /// The window of each layer, as Qwen chooses them.
    pub(super) fn upper_layer_windows(&self) -> Vec<Option<u32>> {
        let window = self.sliding_window.filter(|_| self.use_sliding_window);
        let slides = |layer: u32| match &self.layer_types {
            Some(types) => types.get(layer as usize).is_some_and(|t| t == SLIDING),
            None => layer >= self.max_window_layers,
        };
        (0..self.num_hidden_layers)
            .map(|layer| window.filter(|_| slides(layer)))
            .collect()
    }

    /// Refuses `layer_types` that say anything else than `windows`.
    pub(super) fn check_layer_types(&self, windows: &[Option<u32>]) -> Result<()> {
        let types = self.layer_types.iter().flatten();
        for (layer, (kind, window)) in types.zip(windows).enumerate() {
            let expected = if window.is_some() { SLIDING } else { FULL };
            if kind != expected {
                return Err(Error::Unsupported(format!(
                    "layer_types: layer {layer} is {kind:.100}, its family and sliding_window make it {expected}"
                )));
            }
        }
        Ok(())
    }

    /// Refuses biases in a family that has no such option.
    pub(super) fn refuse_bias(&self, architecture: &str, attention_bias: bool) -> Result<()> {
        let key = match (attention_bias, self.mlp_bias) {
            (true, _) => "attention_bias",
            (_, true) => "mlp_bias",
            _ => return Ok(()),
        };
        Err(Error::Unsupported(format!("{key} in {architecture}")))
    }
}

const SLIDING: &str = "sliding_attention";
const FULL: &str = "full_attention";
