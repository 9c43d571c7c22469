use super::card::Card;
use super::tensors::{OutputDtype, Tensors};
use super::{directory, write, write_json};
use crate::eagle::{EagleLearner, EagleSettings};
use crate::learner::Learner;
use crate::{Result, Target};
use serde_json::json;
use std::path::Path;

/// Writes a layer in SafeAILab's and AngelSlim's layout: `model.safetensors` with `fc`, `midlayer`, `norm`, `lm_head`, `d2t`
/// (what to add to an id of the draft) and `t2d` (which tokens of the target it can guess), `config.json`, and the card as
/// `README.md`. The configuration says the rotation's base that was trained with. It names the layers that are fed only if they
/// are not the usual ones, which loaders take if nothing is said: loaders differ in how they count. Then
/// `aux_hidden_states_layer_ids` counts by outputs, as AngelSlim does, `eagle_config` by inputs, as vLLM does.
///
/// # Errors
/// If a file cannot be written.
pub fn write_eagle(
    learner: &EagleLearner,
    target: &Target,
    dir: &Path,
    dtype: OutputDtype,
    card: &Card,
) -> Result<()> {
    directory(dir)?;
    let mut tensors = Tensors::default();
    for parameter in learner.parameters().iter() {
        tensors.parameter(&parameter.name, parameter, dtype)?;
    }
    let vocabulary = learner.vocabulary();
    let offsets = (0i64..)
        .zip(vocabulary)
        .map(|(own, &id)| i64::from(id) - own);
    tensors.integers("d2t", offsets);
    let known = |id: u32| vocabulary.binary_search(&id).is_ok();
    tensors.booleans("t2d", (0..target.config.vocab_size).map(known));
    tensors.write(&dir.join("model.safetensors"))?;
    let layer = learner.layer();
    let mut config = json!({
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "hidden_size": layer.hidden_size,
        "intermediate_size": layer.intermediate_size,
        "num_hidden_layers": 1,
        "num_attention_heads": layer.num_attention_heads,
        "num_key_value_heads": layer.num_key_value_heads,
        "head_dim": layer.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": layer.rms_norm_eps,
        "rope_theta": layer.rope_theta,
        "max_position_embeddings": target.config.max_position_embeddings,
        "vocab_size": target.config.vocab_size,
        "draft_vocab_size": layer.draft_vocab_size,
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": false,
        "torch_dtype": dtype.torch(),
        "eagle_config": {"use_aux_hidden_state": true},
    });
    let layers = target.config.num_hidden_layers;
    let usual = EagleSettings::of(&target.config, layer.draft_vocab_size).aux_layers;
    if layers < 5 || layer.aux_layers != usual {
        config["aux_hidden_states_layer_ids"] = json!(layer.aux_layers);
        let inputs = layer.aux_layers.map(|layer| layer + 1);
        config["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = json!(inputs);
    }
    write_json(&dir.join("config.json"), &config)?;
    let text = card.render("EAGLE-3 layer", &learner.settings());
    write(&dir.join("README.md"), text.as_bytes())
}
