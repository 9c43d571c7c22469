use super::card::Card;
use super::tensors::{OutputDtype, Tensors};
use super::{directory, write, write_json};
use crate::learner::Learner;
use crate::medusa::MedusaLearner;
use crate::{Result, Target};
use serde_json::json;
use std::path::Path;
use stheno::speculation::{Choices, TreeSearch};

/// The tree of `nodes` nodes, the root among them, that advances most by the shares of an evaluation:
/// `rank_accuracy[head][rank]`.
///
/// # Errors
/// If `nodes` is 0 or more than a tree has.
pub fn tree_of(rank_accuracy: &[Vec<f64>], nodes: usize) -> Result<Choices> {
    let search = TreeSearch {
        nodes,
        max_children: crate::RANKS,
        max_depth: rank_accuracy.len(),
    };
    Ok(search.run(rank_accuracy)?)
}

/// Writes heads and, as `medusa_choices.json`, a tree for them. Heads that use the target's head go into
/// `medusa_lm_head.safetensors` as Medusa's own trainer has them: `{i}.0.linear.weight` and `.bias`. Heads with matrices over
/// the draft vocabulary have vLLM's layout, the one that knows such: `blocks.{i}.layers.0`, `lm_heads.{i}` and `token_map`
/// in `model.safetensors`. The card becomes `README.md`.
///
/// # Errors
/// If a file cannot be written.
pub fn write_medusa(
    learner: &MedusaLearner,
    target: &Target,
    choices: Option<&Choices>,
    dir: &Path,
    dtype: OutputDtype,
    card: &Card,
) -> Result<()> {
    directory(dir)?;
    let heads = learner.heads();
    let mut tensors = Tensors::default();
    for parameter in learner.parameters().iter() {
        let name = match heads.own_matrices {
            true => vllm_name(&parameter.name),
            false => parameter.name.clone(),
        };
        tensors.parameter(&name, parameter, dtype)?;
    }
    let (hidden_size, vocab_size) = (target.config.hidden_size, target.config.vocab_size);
    let (file, config) = match heads.own_matrices {
        true => {
            let vocabulary = learner.vocabulary();
            tensors.integers("token_map", vocabulary.iter().map(|&id| i64::from(id)));
            let config = json!({
                "architectures": ["MedusaModel"],
                "model_type": "medusa",
                "num_heads": heads.heads,
                "num_hidden_layers": 1,
                "hidden_size": hidden_size,
                "vocab_size": vocab_size,
                "truncated_vocab_size": vocabulary.len(),
                "medusa_fc_bias": true,
                "original_lm_head": false,
                "torch_dtype": dtype.torch(),
            });
            ("model.safetensors", config)
        }
        false => {
            let config = json!({
                "version": "2",
                "medusa_num_heads": heads.heads,
                "medusa_num_layers": 1,
                "base_model_name_or_path": card.base_model,
                "hidden_size": hidden_size,
                "vocab_size": vocab_size,
                "torch_dtype": dtype.torch(),
            });
            ("medusa_lm_head.safetensors", config)
        }
    };
    tensors.write(&dir.join(file))?;
    write_json(&dir.join("config.json"), &config)?;
    if let Some(choices) = choices {
        write(
            &dir.join("medusa_choices.json"),
            choices.to_json().as_bytes(),
        )?;
    }
    let text = card.render("Medusa heads", &learner.settings());
    write(&dir.join("README.md"), text.as_bytes())
}

/// `{i}.0.linear.x` is `blocks.{i}.layers.0.x` there, `{i}.1.weight` is `lm_heads.{i}.weight`.
fn vllm_name(name: &str) -> String {
    let mut parts = name.splitn(3, '.');
    let (head, rest) = (parts.next().unwrap_or_default(), parts.nth(1));
    match rest.and_then(|rest| rest.strip_prefix("linear.")) {
        Some(kind) => format!("blocks.{head}.layers.0.{kind}"),
        None => format!("lm_heads.{head}.weight"),
    }
}
