//! Llama 1, 2, 3 and 3.x, and the many models that took its shape.

use super::ModelConfig;
use super::decoder::Decoder;
use super::family::Family;
use crate::Result;

pub(super) static FAMILY: Family = Family {
    architecture: "LlamaForCausalLM",
    model_type: "llama",
    defaults: &[("max_position_embeddings", 2048)],
    decoder,
};

fn decoder(config: &ModelConfig) -> Result<Decoder> {
    Ok(Decoder {
        qkv_bias: config.attention_bias,
        o_bias: config.attention_bias,
        mlp_bias: config.mlp_bias,
        ..Decoder::new(config)
    })
}
