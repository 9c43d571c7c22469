//! Qwen3 (dense): a norm over each head of q and k, and a head size of its own.

use super::ModelConfig;
use super::decoder::Decoder;
use super::family::Family;
use crate::Result;

pub(super) static FAMILY: Family = Family {
    architecture: "Qwen3ForCausalLM",
    model_type: "qwen3",
    defaults: &[
        ("max_position_embeddings", 32768),
        ("head_dim", 128),
        ("sliding_window", 4096),
        ("max_window_layers", 28),
    ],
    decoder,
};

fn decoder(config: &ModelConfig) -> Result<Decoder> {
    config.refuse_bias("Qwen3ForCausalLM", false)?;
    Ok(Decoder {
        qkv_bias: config.attention_bias,
        o_bias: config.attention_bias,
        head_norm: true,
        windows: config.upper_layer_windows(),
        ..Decoder::new(config)
    })
}
