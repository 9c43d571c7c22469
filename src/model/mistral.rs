//! Mistral: Llama's block with a sliding window over every layer.

use super::ModelConfig;
use super::decoder::Decoder;
use super::family::Family;
use crate::Result;

pub(super) static FAMILY: Family = Family {
    architecture: "MistralForCausalLM",
    model_type: "mistral",
    defaults: &[
        ("max_position_embeddings", 131072),
        ("num_key_value_heads", 8),
        ("sliding_window", 4096),
    ],
    decoder,
};

fn decoder(config: &ModelConfig) -> Result<Decoder> {
    config.refuse_bias("MistralForCausalLM", config.attention_bias)?;
    Ok(Decoder {
        windows: vec![config.sliding_window; config.num_hidden_layers as usize],
        ..Decoder::new(config)
    })
}
