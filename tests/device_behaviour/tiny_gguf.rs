//! A quantized model small enough to make anew for each test: matrices in 4 bits, with and without offsets, and in 8 bits.

use crate::common::{Gguf, floats};
use half::f16;
use tempfile::NamedTempFile;

const HIDDEN: u64 = 64;
const FFN: u64 = 96;
const HEADS: u64 = 4;
const KV_HEADS: u64 = 2;
const HEAD_DIM: u64 = 32;
const VOCAB: u64 = 260;
const LAYERS: usize = 2;

/// ggml's numbers of types of 32-element blocks.
const Q4_0: u32 = 2;
const Q4_1: u32 = 3;
const Q8_0: u32 = 8;

/// Blocks of [n, k], scales such that weights are about 1 / sqrt(k).
fn blocks(kind: u32, k: u64, n: u64, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let spread = 1.7 / (k as f32).sqrt();
    let mut data = Vec::new();
    for _ in 0..n * k / 32 {
        let scale = spread * (0.5 + f32::from(next()) / 256.0);
        let (scale, offset, quanta) = match kind {
            Q8_0 => (scale / 127.0, None, 32),
            Q4_1 => (scale / 7.5, Some(-scale), 16),
            _ => (scale / 8.0, None, 16),
        };
        data.extend(f16::from_f32(scale).to_le_bytes());
        data.extend(
            offset
                .iter()
                .flat_map(|offset| f16::from_f32(*offset).to_le_bytes()),
        );
        data.extend((0..quanta).map(|_| next()));
    }
    data
}

/// The file; it is removed when dropped.
pub fn write() -> NamedTempFile {
    let mut file = Gguf::new()
        .text("general.architecture", "llama")
        .u32("llama.embedding_length", HIDDEN as u32)
        .u32("llama.block_count", LAYERS as u32)
        .u32("llama.feed_forward_length", FFN as u32)
        .u32("llama.attention.head_count", HEADS as u32)
        .u32("llama.attention.head_count_kv", KV_HEADS as u32)
        .u32("llama.attention.key_length", HEAD_DIM as u32)
        .u32("llama.context_length", 256)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .f32("llama.rope.freq_base", 10_000.0);
    let norm = |file: Gguf, name: &str| {
        let values = (0..HIDDEN).map(|i| 0.9 + 0.003 * i as f32);
        file.tensor(name, &[HIDDEN], 0, &floats(values))
    };
    let mut seed = 0;
    let mut matrix = |file: Gguf, name: &str, k: u64, n: u64, kind: u32| {
        seed += 1;
        file.tensor(name, &[k, n], kind, &blocks(kind, k, n, seed))
    };
    file = matrix(file, "token_embd.weight", HIDDEN, VOCAB, Q8_0);
    file = norm(file, "output_norm.weight");
    for layer in 0..LAYERS {
        let name = |what: &str| format!("blk.{layer}.{what}.weight");
        let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        file = norm(file, &name("attn_norm"));
        file = norm(file, &name("ffn_norm"));
        file = matrix(file, &name("attn_q"), HIDDEN, q, Q4_0);
        file = matrix(file, &name("attn_k"), HIDDEN, kv, Q4_0);
        file = matrix(file, &name("attn_v"), HIDDEN, kv, Q8_0);
        file = matrix(file, &name("attn_output"), q, HIDDEN, Q4_1);
        file = matrix(file, &name("ffn_gate"), HIDDEN, FFN, Q4_0);
        file = matrix(file, &name("ffn_up"), HIDDEN, FFN, Q4_0);
        file = matrix(file, &name("ffn_down"), FFN, HIDDEN, Q4_1);
    }
    let path = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(path.path(), file.build()).unwrap();
    path
}
