use super::EagleSettings;
use crate::cross_entropy::indices;
use crate::parameters::matrix;
use crate::product::Precision;
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Int, Tensor};

/// The layer's weights in a graph, or outside of one, in the order of its parameters but for the head.
pub(super) struct Layer<'a> {
    settings: &'a EagleSettings,
    precision: Precision,
    fc: &'a Tensor<2>,
    hidden_norm: &'a Tensor<2>,
    input_norm: &'a Tensor<2>,
    q: &'a Tensor<2>,
    k: &'a Tensor<2>,
    v: &'a Tensor<2>,
    o: &'a Tensor<2>,
    post_norm: &'a Tensor<2>,
    gate: &'a Tensor<2>,
    up: &'a Tensor<2>,
    down: &'a Tensor<2>,
    norm: &'a Tensor<2>,
}

/// What the layer sees of an example, outside of any graph.
pub(super) struct Inputs {
    /// Hidden states of the target `[keys, 3h]`.
    pub aux: Tensor<2>,
    /// Embeddings of tokens 1 and on `[keys + steps - 1, h]`.
    pub embeddings: Tensor<2>,
    /// Rows that are computed at step 0.
    pub rows: Vec<usize>,
    /// Those of them that are computed at the steps after, as indices of `rows`.
    pub later: Vec<usize>,
    /// Steps.
    pub steps: usize,
}

impl<'a> Layer<'a> {
    pub fn new(
        settings: &'a EagleSettings,
        precision: Precision,
        weights: &'a [Tensor<2>; 12],
    ) -> Self {
        let [
            fc,
            hidden_norm,
            input_norm,
            q,
            k,
            v,
            o,
            post_norm,
            gate,
            up,
            down,
            norm,
        ] = weights;
        Layer {
            settings,
            precision,
            fc,
            hidden_norm,
            input_norm,
            q,
            k,
            v,
            o,
            post_norm,
            gate,
            up,
            down,
            norm,
        }
    }

    /// Inputs of the head `[rows computed, h]` at each step, for as long as there are any.
    ///
    /// Step 0 is fed the target's hidden states and sees the keys of all positions up to its own. Step i is fed step i - 1's
    /// output at the same position and the token i further on; it sees the keys of step 0, and of the steps since those of
    /// its own position (Li et al., 2025, "training-time test").
    pub fn run(&self, inputs: &Inputs, rope: &Rope) -> Vec<Tensor<2>> {
        let EagleSettings {
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim: d,
            ..
        } = *self.settings;
        let group = heads / kv_heads;
        let device = inputs.aux.device();
        let [keys, _] = inputs.aux.dims();
        let mut rows = inputs.rows.clone();
        let shifted = |rows: &[usize], by: usize| {
            let rows: Vec<usize> = rows.iter().map(|row| row + by).collect();
            indices(&rows, &device)
        };
        let here = shifted(&rows, 0);
        let mut mask = causal(&inputs.rows, keys, &device);
        let embeddings = self.normalised(inputs.embeddings.clone());
        let embeddings = embeddings * self.input_norm.clone();

        let g = self.times(inputs.aux.clone(), self.fc);
        let u = Tensor::cat(
            vec![embeddings.clone().narrow(0, 0, keys), self.hidden(&g)],
            1,
        );
        let k = self.times(u.clone(), self.k).reshape([keys, kv_heads, d]);
        let first_k = rope.turn(k, None).permute([1, 2, 0]);
        let v = self.times(u.clone(), self.v).reshape([keys, kv_heads, d]);
        let first_v = v.swap_dims(0, 1);
        let mut u = u.select(0, here.clone());
        let mut g = g.select(0, here);
        // Of the steps since, each [kv_heads, 1, n, d].
        let mut later: Vec<(Tensor<4>, Tensor<4>)> = Vec::new();
        let mut outputs = Vec::with_capacity(inputs.steps);
        for step in 0..inputs.steps {
            if step == 1 && inputs.later.is_empty() {
                break;
            }
            if step == 1 && inputs.later.len() < rows.len() {
                rows = inputs.later.iter().map(|&row| rows[row]).collect();
                g = g.select(0, indices(&inputs.later, &device));
                mask = causal(&rows, keys, &device);
            }
            let n = rows.len();
            let at = shifted(&rows, step);
            if step > 0 {
                let e = embeddings.clone().select(0, at.clone());
                u = Tensor::cat(vec![e, self.hidden(&g)], 1);
                let by_head = |x: Tensor<3>| x.swap_dims(0, 1).reshape([kv_heads, 1, n, d]);
                let k = self.times(u.clone(), self.k).reshape([n, kv_heads, d]);
                let v = self.times(u.clone(), self.v).reshape([n, kv_heads, d]);
                later.push((by_head(rope.turn(k, Some(&at))), by_head(v)));
            }
            let q = self.times(u.clone(), self.q).reshape([n, heads, d]);
            let q = rope.turn(q, Some(&at)) * (1.0 / (d as f32).sqrt());
            let q = q.swap_dims(0, 1).reshape([kv_heads, group * n, d]);
            let scores = self.precision.product(q.clone(), first_k.clone());
            let scores = scores.reshape([heads, n, keys]);
            let mut scores = vec![scores + mask.clone()];
            let by_group = q.reshape([kv_heads, group, n, d]);
            for (k, _) in &later {
                let score = (by_group.clone() * k.clone()).sum_dim(3);
                scores.push(score.reshape([heads, n, 1]));
            }
            let probabilities = softmax(Tensor::cat(scores, 2), 2);
            let of_first = probabilities.clone().narrow(2, 0, keys);
            let mixed = of_first.reshape([kv_heads, group * n, keys]);
            let mixed = self.precision.product(mixed, first_v.clone());
            let mut mixed = mixed.reshape([kv_heads, group, n, d]);
            for (i, (_, v)) in later.iter().enumerate() {
                let of_step = probabilities.clone().narrow(2, keys + i, 1);
                mixed = mixed + of_step.reshape([kv_heads, group, n, 1]) * v.clone();
            }
            let mixed = mixed.reshape([heads, n, d]).swap_dims(0, 1);
            let y = g + self.times(mixed.reshape([n, heads * d]), self.o);
            let x = self.normalised(y.clone()) * self.post_norm.clone();
            let gate = self.times(x.clone(), self.gate);
            let up = self.times(x, self.up);
            let z = y + self.times(gate.clone() * sigmoid(gate) * up, self.down);
            outputs.push(self.normalised(z.clone()) * self.norm.clone());
            g = z;
        }
        outputs
    }

    fn times(&self, x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
        self.precision.product(x, weight.clone())
    }

    fn hidden(&self, g: &Tensor<2>) -> Tensor<2> {
        self.normalised(g.clone()) * self.hidden_norm.clone()
    }

    /// Without the weight.
    fn normalised(&self, x: Tensor<2>) -> Tensor<2> {
        let square = (x.clone() * x.clone()).mean_dim(1);
        x * (square + self.settings.rms_norm_eps as f32).sqrt().recip()
    }
}

/// 0 where a row sees a key, else so little that nothing is left of it: `[1, rows, keys]`.
fn causal(rows: &[usize], keys: usize, device: &Device) -> Tensor<3> {
    let mut mask = vec![-1e30f32; rows.len() * keys];
    for (row, mask) in rows.iter().zip(mask.chunks_exact_mut(keys.max(1))) {
        mask[..=(*row).min(keys - 1)].fill(0.0);
    }
    matrix(mask, [rows.len(), keys], device).unsqueeze_dim(0)
}

/// Cosines and sines of a rotation in the layout of NeoX: the halves of a head are real and imaginary parts.
pub(super) struct Rope {
    /// `[positions, head_dim / 2]`, both.
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rope {
    pub fn new(settings: &EagleSettings, positions: usize, device: &Device) -> Self {
        let half = settings.head_dim / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..positions {
            for i in 0..half {
                let exponent = -2.0 * i as f64 / settings.head_dim as f64;
                let angle = position as f64 * settings.rope_theta.powf(exponent);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        Rope {
            cos: matrix(cos, [positions, half], device),
            sin: matrix(sin, [positions, half], device),
        }
    }

    /// Turns `[rows, heads, head_dim]` at the given positions, or at 0, 1 and on.
    fn turn(&self, x: Tensor<3>, at: Option<&Tensor<1, Int>>) -> Tensor<3> {
        let [n, _, d] = x.dims();
        let table = |table: &Tensor<2>| -> Tensor<3> {
            let table = table.clone();
            let rows = match at {
                Some(at) => table.select(0, at.clone()),
                None => table.narrow(0, 0, n),
            };
            rows.unsqueeze_dim(1)
        };
        let (cos, sin) = (table(&self.cos), table(&self.sin));
        let a = x.clone().narrow(2, 0, d / 2);
        let b = x.narrow(2, d / 2, d / 2);
        let real = a.clone() * cos.clone() - b.clone() * sin.clone();
        Tensor::cat(vec![real, b * cos + a * sin], 2)
    }
}
