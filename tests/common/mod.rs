//! Small files in all formats, built byte by byte.
#![allow(dead_code)]

pub mod program;

pub mod torch;

pub const CONFIG: &[u8] = br#"{"architectures":["LlamaForCausalLM"],"model_type":"llama"}"#;

/// A GGUF file under construction.
pub struct Gguf {
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

impl Gguf {
    pub fn new() -> Self {
        Gguf {
            keys: Vec::new(),
            key_count: 0,
            tensors: Vec::new(),
            tensor_count: 0,
            data: Vec::new(),
        }
    }

    /// A pair whose value is given with its type.
    pub fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        string(&mut self.keys, key);
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self.key_count += 1;
        self
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        let mut bytes = Vec::new();
        string(&mut bytes, value);
        self.raw(key, 8, &bytes)
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub fn f32(self, key: &str, value: f32) -> Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    /// A tensor; `shape` has the fastest dimension first, as in the file.
    pub fn tensor(mut self, name: &str, shape: &[u64], kind: u32, data: &[u8]) -> Self {
        let offset = self.data.len() as u64;
        self = self.lying_tensor(name, shape, kind, offset);
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self
    }

    /// A tensor without data of its own.
    pub fn lying_tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        string(&mut self.tensors, name);
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        self.tensors
            .extend(shape.iter().flat_map(|d| d.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    pub fn build(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.key_count.to_le_bytes());
        file.extend(self.keys);
        file.extend(self.tensors);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(self.data);
        file
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The metadata of a Llama with 2 heads of 4, 1 key-value head, hidden size 32.
pub fn llama() -> Gguf {
    Gguf::new()
        .text("general.architecture", "llama")
        .u32("llama.embedding_length", 32)
        .u32("llama.block_count", 1)
        .u32("llama.feed_forward_length", 64)
        .u32("llama.attention.head_count", 2)
        .u32("llama.attention.head_count_kv", 1)
        .u32("llama.attention.key_length", 4)
        .u32("llama.context_length", 128)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .f32("llama.rope.freq_base", 10_000.0)
}

/// Little-endian f32.
pub fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// A whole small file.
pub fn small_gguf() -> Vec<u8> {
    llama()
        .tensor("token_embd.weight", &[32, 4], 8, &[1; 4 * 34])
        .tensor(
            "output_norm.weight",
            &[32],
            0,
            &floats((0..32).map(|i| i as f32)),
        )
        .tensor(
            "blk.0.attn_q.weight",
            &[32, 8],
            0,
            &floats((0..256).map(|i| (i / 32) as f32)),
        )
        .tensor("blk.0.attn_k.weight", &[32, 4], 2, &[2; 4 * 18])
        .tensor(
            "blk.0.attn_q.bias",
            &[8],
            0,
            &floats((0..8).map(|i| i as f32)),
        )
        .build()
}

/// A safetensors file of a header and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// A whole small file.
pub fn small_safetensors() -> Vec<u8> {
    let header = r#"{"norm.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"layers.0.mlp.up_proj.weight":{"dtype":"BF16","shape":[2,2],"data_offsets":[8,16]}}"#;
    safetensors(header, &[0; 16])
}
