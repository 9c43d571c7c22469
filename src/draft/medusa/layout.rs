use crate::checkpoint::Checkpoint;
use crate::model::ModelConfig;
use crate::{Error, Result};
use serde_json::Value;
use std::sync::Arc;

/// More heads than anybody trains.
const MOST_HEADS: usize = 63;

/// What a checkpoint holds. Heads are counted from tensors: the configurations of the first published heads say two and
/// hold five.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub name: &'static str,
    pub hidden_size: u32,
    pub heads: Vec<Head>,
    /// Rows of a head's matrix; `None` if it is the target's.
    pub vocab_size: Option<u32>,
    /// Ids of the target for each row, if they differ.
    pub target_ids: Option<Arc<[u32]>>,
    /// Multiplies the logits.
    pub logit_scale: f32,
    /// Whether the checkpoint also holds the target.
    pub with_target: bool,
}

/// One head, by the names of its tensors.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Residual blocks, without `.weight`.
    pub blocks: Vec<String>,
    pub bias: bool,
    /// Its matrix over the vocabulary; the target's head if it has none.
    pub lm_head: Option<String>,
}

impl Layout {
    /// Whether a checkpoint holds Medusa heads.
    pub fn recognises(checkpoint: &Checkpoint) -> bool {
        Naming::find(checkpoint).is_some()
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// If tensors are missing or contradict each other, or there are some that no such checkpoint has.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let path = checkpoint.path();
        let naming = Naming::find(checkpoint).ok_or_else(|| Error::MissingTensor {
            path: path.to_owned(),
            tensor: "0.0.linear.weight".to_owned(),
        })?;
        let heads: Vec<Head> = (0..=MOST_HEADS)
            .map_while(|i| naming.head(checkpoint, i))
            .collect();
        if heads.len() > MOST_HEADS {
            let reason = format!("it has more than {MOST_HEADS} heads");
            return Err(Error::malformed(path, reason));
        }
        let shape = |name: &str| -> Result<[u32; 2]> {
            let shape = checkpoint.shape(name).ok_or_else(|| Error::MissingTensor {
                path: path.to_owned(),
                tensor: name.to_owned(),
            })?;
            let size = |x: usize| u32::try_from(x).ok();
            let sizes = match shape[..] {
                [n, k] => size(n).zip(size(k)),
                _ => None,
            };
            sizes.map(|(n, k)| [n, k]).ok_or_else(|| {
                Error::malformed(path, format!("`{name}` is {shape:?}, expected a matrix"))
            })
        };
        let [hidden_size, _] = shape(&format!("{}.weight", heads[0].blocks[0]))?;
        let matrices: Vec<&String> = heads.iter().filter_map(|h| h.lm_head.as_ref()).collect();
        if !matrices.is_empty() && matrices.len() != heads.len() {
            return Err(Error::malformed(
                path,
                format!("{} of {} heads have a matrix", matrices.len(), heads.len()),
            ));
        }
        let vocab_size = match matrices.first() {
            Some(name) => Some(shape(name)?[0]),
            None => None,
        };
        let config = checkpoint.config();
        let layout = Layout {
            name: naming.layout,
            hidden_size,
            target_ids: target_ids(checkpoint, &naming, vocab_size)?,
            logit_scale: config
                .get("logit_scale")
                .and_then(Value::as_f64)
                .unwrap_or(1.0) as f32,
            with_target: checkpoint.contains("model.embed_tokens.weight"),
            heads,
            vocab_size,
        };
        if !layout.logit_scale.is_finite() {
            return Err(Error::malformed(path, "`logit_scale` is no finite number"));
        }
        layout.refuse_unknown(checkpoint, &naming)?;
        Ok(layout)
    }

    /// Heads of one block with a bias, without a checkpoint.
    ///
    /// # Errors
    /// If there are none or too many.
    pub fn random(heads: u32, own_matrices: bool, target: &ModelConfig) -> Result<Self> {
        if !(1..=MOST_HEADS as u32).contains(&heads) {
            return Err(Error::Invalid(format!(
                "a draft of {heads} heads; there may be 1 to {MOST_HEADS} heads"
            )));
        }
        let head = |index| Head {
            blocks: vec![format!("{index}.0.linear")],
            bias: true,
            lm_head: own_matrices.then(|| format!("{index}.1.weight")),
        };
        Ok(Layout {
            name: "random heads",
            hidden_size: target.hidden_size,
            heads: (0..heads).map(head).collect(),
            vocab_size: own_matrices.then_some(target.vocab_size),
            target_ids: None,
            logit_scale: 1.0,
            with_target: false,
        })
    }

    fn refuse_unknown(&self, checkpoint: &Checkpoint, naming: &Naming) -> Result<()> {
        let known = |name: &str| {
            let block = |head: &Head| {
                head.blocks.iter().any(|block| {
                    let rest = name.strip_prefix(block.as_str());
                    matches!(rest, Some(".weight" | ".bias"))
                })
            };
            let of_heads = self
                .heads
                .iter()
                .any(|head| block(head) || head.lm_head.as_deref() == Some(name));
            of_heads
                || name == naming.token_map()
                || self.with_target && (name.starts_with("model.") || name == "lm_head.weight")
        };
        match checkpoint.tensor_names().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(Error::malformed(
                checkpoint.path(),
                format!("tensor `{name}` is of no Medusa head"),
            )),
        }
    }
}

/// How a file names its tensors.
struct Naming {
    layout: &'static str,
    prefix: &'static str,
    vllm: bool,
}

impl Naming {
    fn find(checkpoint: &Checkpoint) -> Option<Self> {
        let namings = [
            ("heads beside the model", "", false),
            ("heads in the model", "medusa_head.", false),
            ("heads as vLLM has them", "", true),
            ("heads as vLLM has them", "medusa_heads.", true),
        ];
        let namings = namings.map(|(layout, prefix, vllm)| Naming {
            layout,
            prefix,
            vllm,
        });
        namings
            .into_iter()
            .find(|naming| checkpoint.contains(&format!("{}.weight", naming.block(0, 0))))
    }

    fn block(&self, head: usize, block: usize) -> String {
        let prefix = self.prefix;
        match self.vllm {
            true => format!("{prefix}blocks.{head}.layers.{block}"),
            false => format!("{prefix}{head}.{block}.linear"),
        }
    }

    fn token_map(&self) -> String {
        format!("{}token_map", self.prefix)
    }

    /// Head `index`, if there is one.
    fn head(&self, checkpoint: &Checkpoint, index: usize) -> Option<Head> {
        let blocks = (0..).map(|block| self.block(index, block));
        let has = |name: &String| checkpoint.contains(&format!("{name}.weight"));
        let blocks: Vec<String> = blocks.take_while(has).collect();
        let first = blocks.first()?;
        let prefix = self.prefix;
        let matrices = match self.vllm {
            true => vec![
                format!("{prefix}lm_heads.{index}.weight"),
                format!("{prefix}lm_head.weight"),
            ],
            false => vec![format!("{prefix}{index}.{}.weight", blocks.len())],
        };
        Some(Head {
            bias: checkpoint.contains(&format!("{first}.bias")),
            lm_head: matrices.into_iter().find(|name| checkpoint.contains(name)),
            blocks,
        })
    }
}

fn target_ids(
    checkpoint: &Checkpoint,
    naming: &Naming,
    vocab_size: Option<u32>,
) -> Result<Option<Arc<[u32]>>> {
    let name = naming.token_map();
    let Some(count) = vocab_size.filter(|_| checkpoint.contains(&name)) else {
        return Ok(None);
    };
    let ids = checkpoint.integers(&name, count as usize)?;
    let ids: Option<Vec<u32>> = ids.iter().map(|id| u32::try_from(*id).ok()).collect();
    let ids = ids.ok_or_else(|| {
        Error::malformed(checkpoint.path(), format!("`{name}` holds no token ids"))
    })?;
    let distinct: std::collections::BTreeSet<u32> = ids.iter().copied().collect();
    if distinct.len() != ids.len() {
        return Err(Error::malformed(
            checkpoint.path(),
            format!("`{name}` holds one token id twice"),
        ));
    }
    Ok(Some(ids.into()))
}
