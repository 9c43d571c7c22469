//! A tiny Llama, trained from nothing.

use super::language::{EOS, Language, VOCAB};
use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

const HIDDEN: usize = 64;
const LAYERS: usize = 5;
const HEADS: usize = 4;
const HEAD_DIM: usize = 16;
const MLP: usize = 128;
const LEN: usize = 32;
const BATCH: usize = 16;

/// Weights by their names in a checkpoint, matrices `[out, in]`.
pub struct Llama {
    weights: Vec<(String, Tensor<2>)>,
    device: Device,
}

impl Llama {
    fn new(seed: u64) -> Self {
        let device = Device::flex().autodiff();
        device.seed(seed);
        let mut weights = Vec::new();
        let mut add = |name: String, [n, k]: [usize; 2]| {
            let value = match name.contains("norm") {
                true => Tensor::ones([n, k], &device),
                false => Tensor::random(
                    [n, k],
                    Distribution::Normal(0.0, (k as f64).sqrt().recip()),
                    &device,
                ),
            };
            weights.push((name, value.require_grad()));
        };
        add("model.embed_tokens.weight".to_owned(), [VOCAB, HIDDEN]);
        for layer in 0..LAYERS {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            add(name("input_layernorm"), [1, HIDDEN]);
            for part in ["q", "k", "v", "o"] {
                add(name(&format!("self_attn.{part}_proj")), [HIDDEN, HIDDEN]);
            }
            add(name("post_attention_layernorm"), [1, HIDDEN]);
            add(name("mlp.gate_proj"), [MLP, HIDDEN]);
            add(name("mlp.up_proj"), [MLP, HIDDEN]);
            add(name("mlp.down_proj"), [HIDDEN, MLP]);
        }
        add("model.norm.weight".to_owned(), [1, HIDDEN]);
        add("lm_head.weight".to_owned(), [VOCAB, HIDDEN]);
        Llama { weights, device }
    }

    /// Learns the language for `steps` steps of Adam; returns the loss of the last one.
    pub fn train(language: &Language, steps: usize) -> (Self, f32) {
        let mut model = Llama::new(1);
        let mut moments: Vec<[Tensor<2>; 2]> = model
            .weights
            .iter()
            .map(|(_, w)| [0, 1].map(|_| w.clone().inner().zeros_like()))
            .collect();
        let mut last = f32::INFINITY;
        for step in 0..steps {
            let sentences =
                (0..BATCH).map(|i| language.sentence((step * BATCH + i) as u64, LEN + 1));
            let loss = model.loss(&sentences.collect::<Vec<_>>());
            last = loss.clone().into_scalar::<f32>();
            let mut gradients = loss.backward();
            // Up over a tenth of the steps, then down to nothing.
            let done = step as f32 / steps as f32;
            let rate = 5e-3 * (done / 0.1).min((1.0 - done) / 0.9);
            let power = step as i32 + 1;
            let (first, second) = (1.0 - 0.9f32.powi(power), 1.0 - 0.99f32.powi(power));
            for ((_, weight), [m, v]) in model.weights.iter_mut().zip(&mut moments) {
                let g = weight.grad_remove(&mut gradients).unwrap();
                *m = m.clone() * 0.9 + g.clone() * 0.1;
                *v = v.clone() * 0.99 + g.clone() * g * 0.01;
                let change = m.clone() / first * rate / ((v.clone() / second).sqrt() + 1e-8);
                let value = weight.clone().inner() - change;
                *weight = value.autodiff().require_grad();
            }
        }
        (model, last)
    }

    /// Mean cross-entropy of the words after the first.
    fn loss(&self, sentences: &[Vec<u32>]) -> Tensor<1> {
        let mut weights = self.weights.iter().map(|(_, w)| w.clone());
        let mut next = || weights.next().unwrap();
        let ids = |from: usize| {
            let ids: Vec<i32> = sentences
                .iter()
                .flat_map(|s| &s[from..from + LEN])
                .map(|id| *id as i32)
                .collect();
            Tensor::<1, Int>::from_data(TensorData::new(ids, [BATCH * LEN]), &self.device)
        };
        let mut x = next().select(0, ids(0));
        for _ in 0..LAYERS {
            let normed = norm(&x, next());
            let [q, k, v] = [0, 1, 2].map(|_| {
                let heads = linear(&normed, next()).reshape([BATCH, LEN, HEADS, HEAD_DIM]);
                heads.swap_dims(1, 2)
            });
            let scores =
                self.rotated(q).matmul(self.rotated(k).transpose()) / (HEAD_DIM as f32).sqrt();
            let mixed = softmax(scores + self.causal(), 3).matmul(v);
            let mixed = mixed.swap_dims(1, 2).reshape([BATCH * LEN, HIDDEN]);
            x = x + linear(&mixed, next());
            let normed = norm(&x, next());
            let gate = linear(&normed, next());
            let up = linear(&normed, next());
            x = x + linear(&(gate.clone() * sigmoid(gate) * up), next());
        }
        let normed = norm(&x, next());
        let logits = log_softmax(linear(&normed, next()), 1);
        logits.gather(1, ids(1).unsqueeze_dim(1)).mean().neg()
    }

    fn causal(&self) -> Tensor<4> {
        let mask = (0..LEN * LEN).map(|i| if i % LEN > i / LEN { -1e9f32 } else { 0.0 });
        Tensor::from_data(
            TensorData::new(mask.collect(), [1, 1, LEN, LEN]),
            &self.device,
        )
    }

    /// Base 10000, halves of a head as real and imaginary parts.
    fn rotated(&self, x: Tensor<4>) -> Tensor<4> {
        let half = HEAD_DIM / 2;
        let table = |f: fn(f32) -> f32| -> Tensor<4> {
            let angles = (0..LEN * half)
                .map(|i| f((i / half) as f32 * 10_000f32.powf(-((i % half) as f32) / half as f32)));
            Tensor::from_data(
                TensorData::new(angles.collect(), [1, 1, LEN, half]),
                &self.device,
            )
        };
        let (cos, sin) = (table(f32::cos), table(f32::sin));
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let real = a.clone() * cos.clone() - b.clone() * sin.clone();
        Tensor::cat(vec![real, b * cos + a * sin], 3)
    }

    /// Writes a checkpoint that the engine opens.
    pub fn write(&self, dir: &Path) {
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .weights
            .iter()
            .map(|(name, value)| {
                let [n, k] = value.dims();
                let shape = if name.contains("norm") {
                    vec![k]
                } else {
                    vec![n, k]
                };
                let values = value.clone().inner().try_into_vec_as::<f32>().unwrap();
                (
                    name.clone(),
                    shape,
                    values.into_iter().flat_map(f32::to_le_bytes).collect(),
                )
            })
            .collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
        let config = serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
            "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS, "hidden_act": "silu", "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": false, "eos_token_id": EOS,
        });
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    }
}

fn linear(x: &Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    x.clone().matmul(weight.transpose())
}

fn norm(x: &Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let square = (x.clone() * x.clone()).mean_dim(1);
    x.clone() * (square + 1e-5).sqrt().recip() * weight
}
