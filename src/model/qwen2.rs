//! Qwen2 and Qwen2.5: biases on q, k and v, and a sliding window on the upper layers if asked for.

use super::ModelConfig;
use super::decoder::Decoder;
use super::family::Family;
use crate::Result;

pub(super) static FAMILY: Family = Family {
    architecture: "Qwen2ForCausalLM",
    model_type: "qwen2",
    defaults: &[
        ("max_position_embeddings", 32768),
        ("sliding_window", 4096),
        ("max_window_layers", 28),
    ],
    decoder,
};

fn decoder(config: &ModelConfig) -> Result<Decoder> {
    config.refuse_bias("Qwen2ForCausalLM", false)?;
    Ok(Decoder {
        qkv_bias: true,
        windows: config.upper_layer_windows(),
        ..Decoder::new(config)
    })
}
