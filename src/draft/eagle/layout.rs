use crate::checkpoint::Checkpoint;
use crate::model::ModelConfig;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Which generation of EAGLE a checkpoint is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// EAGLE-1, whose heads EAGLE-2 uses: fed the target's last hidden state, read by the target's head.
    One,
    /// EAGLE-3: fed hidden states of several layers, with a head of its own.
    Three,
}

/// What a checkpoint holds, read off its tensors where they say, and off its configuration where they do not. Tensor names
/// are those of the file: SafeAILab, AngelSlim, SpecForge, vLLM and speculators write different ones.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub version: Version,
    /// Sizes and rotation. Its `rope_theta` is the configuration's, or 10000 where that has none.
    pub config: ModelConfig,
    /// Whether the configuration says a base of the rotation at all.
    pub names_rope_theta: bool,
    /// Names of the layers' tensors up to `.self_attn`.
    pub layers: Vec<String>,
    /// Input projection, without `.weight`.
    pub fc: String,
    pub fc_bias: bool,
    /// Vectors that are fed side by side.
    pub inputs: u32,
    /// Width of the target that the head was made for.
    pub target_hidden_size: u32,
    pub qkv_bias: bool,
    /// A norm of each of the fed vectors (EAGLE-3.1), names of the weights.
    pub fc_norms: Vec<String>,
    /// Final norm, if there is one.
    pub norm: Option<String>,
    /// Head of its own.
    pub lm_head: Option<String>,
    /// Embedding of its own, used only where the target's does not fit.
    pub embedding: Option<String>,
    pub draft_vocab_size: u32,
    /// Ids of the target for each id of the draft, if they differ.
    pub target_ids: Option<Arc<[u32]>>,
    /// The residual stream begins with the normalised hidden state.
    pub norm_before_residual: bool,
    /// What is fed back is normalised (EAGLE-3.1).
    pub norm_output: bool,
    /// Layers whose hidden states are fed, as the configuration has them.
    pub aux_layers: Option<Vec<u32>>,
}

impl Layout {
    /// Whether a checkpoint is EAGLE's.
    pub fn recognises(checkpoint: &Checkpoint) -> bool {
        fc_name(checkpoint).is_some()
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// If tensors are missing or contradict each other, or there are some that no such head has.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let file = File { checkpoint };
        let fc = fc_name(checkpoint).ok_or_else(|| file.missing("fc.weight"))?;
        let [hidden_size, fed] = file.matrix(&format!("{fc}.weight"))?;
        let layers = file.layers()?;
        let first = &layers[0];
        let [query, width] = file.matrix(&format!("{first}.self_attn.q_proj.weight"))?;
        let version = match width {
            width if width == hidden_size => Version::One,
            width if u64::from(width) == 2 * u64::from(hidden_size) => Version::Three,
            width => {
                let reason =
                    format!("its q_proj takes {width} columns, hidden_size is {hidden_size}");
                return Err(file.malformed(reason));
            }
        };
        let outer = file.config()?;
        let inner = inner_config(outer);
        let flag = |key: &str| {
            [inner, outer]
                .into_iter()
                .find_map(|c| c.get(key)?.as_bool())
        };
        let number = |key: &str| {
            [inner, outer]
                .into_iter()
                .find_map(|c| c.get(key)?.as_u64())
        };
        let config = file.model_config(inner, &layers, hidden_size, query)?;
        let target_hidden_size = match (version, number("target_hidden_size")) {
            (_, Some(size)) => u32::try_from(size).unwrap_or(0),
            (Version::One, None) => fed.saturating_sub(hidden_size),
            (Version::Three, None) => hidden_size,
        };
        let inputs = match version {
            Version::One => 1,
            Version::Three => fed.checked_div(target_hidden_size).unwrap_or(0),
        };
        let expected = match version {
            Version::One => u64::from(hidden_size) + u64::from(target_hidden_size),
            Version::Three => u64::from(inputs) * u64::from(target_hidden_size),
        };
        if inputs == 0 || expected != u64::from(fed) {
            return Err(file.malformed(format!(
                "`{fc}.weight` takes {fed} columns, which are no hidden states of {target_hidden_size}"
            )));
        }
        let says_fc_bias = flag("bias").or(flag("eagle_fc_bias"));
        let fc_bias = checkpoint.contains(&format!("{fc}.bias"));
        if says_fc_bias == Some(true) && !fc_bias {
            return Err(file.missing(&format!("{fc}.bias")));
        }
        let lm_head = ["lm_head.weight", "model.lm_head.weight"];
        let lm_head = lm_head.into_iter().find(|n| checkpoint.contains(n));
        let (lm_head, draft_vocab_size) = match (version, lm_head) {
            (Version::Three, Some(name)) => (Some(name.to_owned()), file.matrix(name)?[0]),
            (Version::Three, None) => return Err(file.missing("lm_head.weight")),
            (Version::One, _) => (None, config.vocab_size),
        };
        let prefix = fc.strip_suffix("fc").unwrap_or_default().to_owned();
        let find = |name: &str| {
            let name = format!("{prefix}{name}");
            checkpoint.contains(&name).then_some(name)
        };
        let fc_norms: Vec<String> = (0..inputs)
            .filter_map(|i| find(&format!("fc_norm.{i}.weight")))
            .collect();
        if !fc_norms.is_empty() && fc_norms.len() as u32 != inputs {
            return Err(file.malformed(format!(
                "it has {} norms for {inputs} hidden states",
                fc_norms.len()
            )));
        }
        let layout = Layout {
            version,
            names_rope_theta: names_rope_theta(inner),
            target_ids: file.target_ids(draft_vocab_size)?,
            fc_bias,
            inputs,
            target_hidden_size,
            qkv_bias: checkpoint.contains(&format!("{first}.self_attn.q_proj.bias")),
            fc_norms,
            norm: find("norm.weight").filter(|_| version == Version::Three),
            lm_head,
            embedding: find("embed_tokens.weight"),
            draft_vocab_size,
            norm_before_residual: flag("norm_before_residual").unwrap_or(false),
            norm_output: flag("norm_output").unwrap_or(false),
            aux_layers: aux_layers(inner, outer),
            config,
            layers,
            fc,
        };
        if version == Version::Three && layout.norm.is_none() {
            return Err(file.missing(&format!("{prefix}norm.weight")));
        }
        file.refuse_unknown(&layout)?;
        Ok(layout)
    }
}

impl Layout {
    /// An EAGLE-3 layer of the target's sizes without a checkpoint; it guesses at `vocab_size` tokens, evenly among the target's,
    /// or at all if the target has fewer.
    pub fn random(vocab_size: u32, target: &ModelConfig) -> Self {
        let draft_vocab_size = vocab_size.clamp(1, target.vocab_size.max(1));
        let [all, own] = [target.vocab_size, draft_vocab_size].map(u64::from);
        let spread = (0..own).map(|id| (id * all / own) as u32);
        Layout {
            version: Version::Three,
            config: ModelConfig {
                num_hidden_layers: 1,
                ..target.clone()
            },
            names_rope_theta: true,
            layers: vec!["midlayer".to_owned()],
            fc: "fc".to_owned(),
            fc_bias: false,
            inputs: 3,
            target_hidden_size: target.hidden_size,
            qkv_bias: false,
            fc_norms: Vec::new(),
            norm: Some("norm.weight".to_owned()),
            lm_head: Some("lm_head.weight".to_owned()),
            embedding: None,
            draft_vocab_size,
            target_ids: (own < all).then(|| spread.collect()),
            norm_before_residual: false,
            norm_output: false,
            aux_layers: None,
        }
    }
}

/// A checkpoint under examination.
struct File<'a> {
    checkpoint: &'a Checkpoint,
}

impl File<'_> {
    fn config(&self) -> Result<&Map<String, Value>> {
        let object = self.checkpoint.config().as_object();
        object.ok_or_else(|| self.malformed("its config.json is no object".to_owned()))
    }

    /// Names of the layers, in order.
    fn layers(&self) -> Result<Vec<String>> {
        let is_layer = |name: &str| {
            let q_proj = format!("{name}.self_attn.q_proj.weight");
            self.checkpoint.contains(&q_proj)
        };
        for first in ["midlayer", "model.midlayer"] {
            if is_layer(first) {
                return Ok(vec![first.to_owned()]);
            }
        }
        for prefix in ["layers.", "model.layers."] {
            let names = (0..).map(|i| format!("{prefix}{i}"));
            let layers: Vec<String> = names.take_while(|name| is_layer(name)).collect();
            if !layers.is_empty() {
                return Ok(layers);
            }
        }
        Err(self.missing("midlayer.self_attn.q_proj.weight"))
    }

    /// The sizes of the layers as a Llama configuration. Heads are counted from tensors: `head_dim` is often left out or
    /// wrong (trap 3), `tie_word_embeddings` a copy of the target's (trap 2), and so is all about other layers.
    fn model_config(
        &self,
        config: &Map<String, Value>,
        layers: &[String],
        hidden_size: u32,
        query: u32,
    ) -> Result<ModelConfig> {
        let mut config = config.clone();
        for key in [
            "layer_types",
            "sliding_window",
            "use_sliding_window",
            "max_window_layers",
            "quantization_config",
            "attention_bias",
            "mlp_bias",
            "model_type",
            "partial_rotary_factor",
        ] {
            config.remove(key);
        }
        let heads = config.get("num_attention_heads").and_then(Value::as_u64);
        let head_dim = u64::from(query).checked_div(heads.unwrap_or(0));
        let divides = |d: &u64| *d > 0 && heads.is_some_and(|h| h * d == u64::from(query));
        let head_dim = head_dim.filter(divides);
        let head_dim = head_dim.ok_or_else(|| {
            self.malformed(format!(
                "q_proj has {query} rows, which `num_attention_heads` {} does not divide",
                heads.unwrap_or(0)
            ))
        })?;
        let first = &layers[0];
        let [key_value, _] = self.matrix(&format!("{first}.self_attn.k_proj.weight"))?;
        let [intermediate, _] = self.matrix(&format!("{first}.mlp.gate_proj.weight"))?;
        let set = [
            ("architectures", json!(["LlamaForCausalLM"])),
            ("hidden_size", json!(hidden_size)),
            ("num_hidden_layers", json!(layers.len())),
            ("head_dim", json!(head_dim)),
            (
                "num_key_value_heads",
                json!(u64::from(key_value) / head_dim),
            ),
            ("intermediate_size", json!(intermediate)),
            ("tie_word_embeddings", json!(false)),
        ];
        for (key, value) in set {
            config.insert(key.to_owned(), value);
        }
        ModelConfig::from_json(&Value::Object(config), self.checkpoint.path())
    }

    /// `d2t` holds what to add to an id of the draft; speculators call it `draft_id_to_target_id`, some files save the ids
    /// themselves under that name.
    fn target_ids(&self, draft_vocab_size: u32) -> Result<Option<Arc<[u32]>>> {
        let names = ["d2t", "draft_id_to_target_id", "model.d2t"];
        let Some(name) = names.into_iter().find(|n| self.checkpoint.contains(n)) else {
            return Ok(None);
        };
        let offsets = self.checkpoint.integers(name, draft_vocab_size as usize)?;
        let ids: Option<Vec<u32>> = (0i64..)
            .zip(&offsets)
            .map(|(id, offset)| u32::try_from(id.checked_add(*offset)?).ok())
            .collect();
        let ids = ids.ok_or_else(|| self.malformed(format!("`{name}` leads to no token ids")))?;
        let distinct: BTreeSet<u32> = ids.iter().copied().collect();
        if distinct.len() != ids.len() {
            return Err(self.malformed(format!("`{name}` leads to one token id twice")));
        }
        Ok(Some(ids.into()))
    }

    /// Tensors that the plan does not read and no such head has besides.
    fn refuse_unknown(&self, layout: &Layout) -> Result<()> {
        let ignored = |name: &str| {
            let end = name.rsplit('.').nth(1).unwrap_or(name);
            // Frozen copies of the target's tensors, maps, and buffers of the trainers.
            matches!(
                name,
                "d2t" | "t2d" | "draft_id_to_target_id" | "model.d2t" | "model.t2d"
            ) || matches!(end, "embed_tokens" | "rotary_emb")
                || (layout.version == Version::One && end == "lm_head")
                || layout.norm.as_deref() == Some(name)
                || layout.lm_head.as_deref() == Some(name)
                || layout.fc_norms.iter().any(|norm| norm == name)
        };
        let layer = |name: &str| {
            let of = |layer: &String| {
                let part = name.strip_prefix(layer.as_str())?.strip_prefix('.')?;
                let norms = match layout.version {
                    Version::One => layer != &layout.layers[0],
                    Version::Three => true,
                };
                let known = match part {
                    "input_layernorm.weight" => norms,
                    "hidden_norm.weight" => {
                        layout.version == Version::Three && layer == &layout.layers[0]
                    }
                    "post_attention_layernorm.weight" => true,
                    part => {
                        let projection = part
                            .strip_prefix("self_attn.")
                            .or(part.strip_prefix("mlp."))?;
                        match projection.rsplit_once('.') {
                            Some(("q_proj" | "k_proj" | "v_proj", "bias")) => layout.qkv_bias,
                            Some((_, kind)) => kind == "weight" && projection.contains("_proj"),
                            None => false,
                        }
                    }
                };
                Some(known)
            };
            layout.layers.iter().filter_map(of).any(|known| known)
        };
        let fc = |name: &str| {
            name.strip_prefix(&layout.fc)
                .is_some_and(|p| matches!(p, ".weight" | ".bias"))
        };
        let unknown: Vec<&str> = self
            .checkpoint
            .tensor_names()
            .filter(|name| !ignored(name) && !layer(name) && !fc(name))
            .collect();
        match unknown.as_slice() {
            [] => Ok(()),
            names => Err(self.malformed(format!(
                "tensors that no EAGLE head has: {}{}",
                names[..names.len().min(3)].join(", "),
                if names.len() > 3 { ", ..." } else { "" }
            ))),
        }
    }

    fn matrix(&self, name: &str) -> Result<[u32; 2]> {
        let shape = self
            .checkpoint
            .shape(name)
            .ok_or_else(|| self.missing(name))?;
        let size = |x: usize| u32::try_from(x).ok().filter(|x| *x > 0);
        match shape[..] {
            [n, k] => size(n).zip(size(k)).map(|(n, k)| [n, k]),
            _ => None,
        }
        .ok_or_else(|| self.malformed(format!("`{name}` is {shape:?}, expected a matrix")))
    }

    fn missing(&self, tensor: &str) -> Error {
        Error::MissingTensor {
            path: self.checkpoint.path().to_owned(),
            tensor: tensor.to_owned(),
        }
    }

    fn malformed(&self, reason: String) -> Error {
        Error::malformed(self.checkpoint.path(), reason)
    }
}

fn fc_name(checkpoint: &Checkpoint) -> Option<String> {
    let names = ["fc", "model.fc"].into_iter();
    let mut names = names.filter(|name| checkpoint.contains(&format!("{name}.weight")));
    names.next().map(str::to_owned)
}

/// vLLM's old wrapper and speculators keep the layer's configuration inside another.
fn inner_config(outer: &Map<String, Value>) -> &Map<String, Value> {
    let inner = ["transformer_layer_config", "model"];
    let inner = inner
        .into_iter()
        .find_map(|key| outer.get(key)?.as_object());
    inner.unwrap_or(outer)
}

fn names_rope_theta(config: &Map<String, Value>) -> bool {
    let nested = |key: &str| config.get(key).and_then(|v| v.get("rope_theta"));
    let direct = config.get("rope_theta");
    let theta = direct
        .or(nested("rope_parameters"))
        .or(nested("rope_scaling"));
    theta.is_some_and(Value::is_number)
}

fn aux_layers(inner: &Map<String, Value>, outer: &Map<String, Value>) -> Option<Vec<u32>> {
    let keys = [
        "aux_hidden_states_layer_ids",
        "eagle_aux_hidden_state_layer_ids",
        "aux_hidden_state_layer_ids",
    ];
    let nested = |map: &'_ Map<String, Value>| -> Option<Vec<u32>> {
        let within = map.get("eagle_config").and_then(Value::as_object);
        let list = keys
            .into_iter()
            .find_map(|key| map.get(key).or(within?.get(key)))?;
        let list = list.as_array()?.iter();
        list.map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    };
    nested(inner).or_else(|| nested(outer))
}
