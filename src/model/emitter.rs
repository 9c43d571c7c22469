use super::Precision;
use stheno_codegen::plan::{
    Activation, BufferId, Columns, Dim, Dtype, Epilogue, Linear, Norm, Op, Part, PlanBuilder,
    QkvEpilogue, RopeId, WeightId,
};

/// Writes ops for plan builders: declares what they need under a common prefix and rounds where the precision says.
pub(crate) struct Emitter<'a> {
    pub builder: &'a mut PlanBuilder,
    pub precision: Precision,
    /// Before the name of every weight and buffer: empty for the target.
    pub prefix: &'static str,
    /// Of every norm.
    pub eps: f32,
    pub ops: Vec<Op>,
}

/// Buffers that the second half of a layer works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    /// [_, hidden_size], the residual stream.
    pub residual: BufferId,
    /// [_, num_attention_heads * head_dim].
    pub attention: BufferId,
    /// [_, intermediate_size].
    pub gated: BufferId,
}

/// Attention of one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    /// Layer of the KV cache.
    pub layer: u32,
    pub num_attention_heads: u32,
    pub num_key_value_heads: u32,
    pub head_dim: u32,
    pub rope: RopeId,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Norms over each head of q and k.
    pub head_norm: bool,
    pub window: Option<u32>,
}

/// What follows the attention in one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeedForwardShape {
    pub hidden_size: u32,
    pub intermediate_size: u32,
    /// Elements of one row of the attention's output.
    pub query_columns: u32,
    pub activation: Activation,
    /// Bias on the attention's output projection.
    pub o_bias: bool,
    /// Biases on gate, up and down.
    pub mlp_bias: bool,
}

impl Emitter<'_> {
    /// q/k/v of `input` (after `norm`) with rotation and append, then attention into `output`. Weights are
    /// `{name}.self_attn.*`.
    pub fn attention(
        &mut self,
        name: &str,
        shape: AttentionShape,
        input: BufferId,
        norm: Option<Norm>,
        output: BufferId,
    ) {
        let k = self.columns_of(input);
        let query_columns = shape.num_attention_heads * shape.head_dim;
        let kv_columns = shape.num_key_value_heads * shape.head_dim;
        let q = self.buffer("q", Dim::Rows, query_columns);
        let widths = [
            ("q_proj", query_columns),
            ("k_proj", kv_columns),
            ("v_proj", kv_columns),
        ];
        let parts = widths.map(|(part, n)| {
            let name = format!("{name}.self_attn.{part}");
            self.part(&name, n, k, shape.qkv_bias)
        });
        let mut head_norm = |which: &str| {
            let name = format!("{name}.self_attn.{which}.weight");
            (shape.head_norm).then(|| self.norm(&name, shape.head_dim))
        };
        let epilogue = Epilogue::Qkv(QkvEpilogue {
            q,
            layer: shape.layer,
            q_norm: head_norm("q_norm"),
            k_norm: head_norm("k_norm"),
            rope: shape.rope,
        });
        self.linear(input, norm, parts.to_vec(), epilogue);
        self.ops.push(Op::Attention {
            q,
            output,
            layer: shape.layer,
            scale: (1.0 / f64::from(shape.head_dim).sqrt()) as f32,
            window: shape.window,
        });
    }

    /// Output projection of the attention, norm, gated feed-forward, each added to the residual stream. Weights are
    /// those of a Llama layer `name`.
    pub fn feed_forward(&mut self, name: &str, shape: FeedForwardShape, stream: Stream) {
        let (hidden, intermediate) = (shape.hidden_size, shape.intermediate_size);
        let residual = stream.residual;
        let add = Epilogue::Residual {
            residual,
            activation: None,
        };
        let o_proj = format!("{name}.self_attn.o_proj");
        let part = self.part(&o_proj, hidden, shape.query_columns, shape.o_bias);
        self.linear(stream.attention, None, vec![part], add.clone());

        let norm = self.norm(&format!("{name}.post_attention_layernorm.weight"), hidden);
        let parts = ["gate_proj", "up_proj"].map(|part| {
            let name = format!("{name}.mlp.{part}");
            self.part(&name, intermediate, hidden, shape.mlp_bias)
        });
        let gated = Epilogue::Gated {
            activation: shape.activation,
            output: stream.gated,
        };
        self.linear(residual, Some(norm), parts.to_vec(), gated);

        let down_proj = format!("{name}.mlp.down_proj");
        let part = self.part(&down_proj, hidden, intermediate, shape.mlp_bias);
        self.linear(stream.gated, None, vec![part], add);
    }

    /// Products of `input` (after `norm`) with one matrix, in f32.
    pub fn logits(
        &mut self,
        input: BufferId,
        norm: Option<Norm>,
        weight: WeightId,
        output: BufferId,
    ) {
        let parts = vec![Part { weight, bias: None }];
        self.linear(input, norm, parts, Epilogue::Store { output });
    }

    pub fn linear(
        &mut self,
        input: BufferId,
        norm: Option<Norm>,
        parts: Vec<Part>,
        epilogue: Epilogue,
    ) {
        let k = self.columns_of(input);
        self.ops.push(Op::Linear(Linear {
            input,
            norm,
            input_dtype: self.precision.input(k),
            parts,
            epilogue,
        }));
    }

    /// `output` columns from `start` on receive all of `input`, normalised by `norm`.
    pub fn copy(&mut self, input: BufferId, norm: Option<Norm>, output: BufferId, start: u32) {
        let count = self.columns_of(input);
        self.copy_columns((input, 0), norm, (output, start), count);
    }

    /// The same of `count` columns, from the one named of each buffer on.
    pub fn copy_columns(
        &mut self,
        (input, from): (BufferId, u32),
        norm: Option<Norm>,
        (output, to): (BufferId, u32),
        count: u32,
    ) {
        let columns = |buffer, start| Columns {
            buffer,
            start,
            count,
        };
        self.ops.push(Op::Copy {
            input: columns(input, from),
            norm,
            output: columns(output, to),
        });
    }

    pub fn gather(&mut self, input: BufferId, output: BufferId) {
        self.ops.push(Op::Gather { input, output });
    }

    /// Matrix `{name}.weight` and, if asked for, vector `{name}.bias`.
    pub fn part(&mut self, name: &str, n: u32, k: u32, bias: bool) -> Part {
        let weight = self.matrix(&format!("{name}.weight"), n, k);
        let bias = bias.then(|| self.vector(&format!("{name}.bias"), n));
        Part { weight, bias }
    }

    pub fn norm(&mut self, name: &str, n: u32) -> Norm {
        Norm {
            weight: self.vector(name, n),
            eps: self.eps,
        }
    }

    pub fn matrix(&mut self, name: &str, n: u32, k: u32) -> WeightId {
        let name = format!("{}{name}", self.prefix);
        self.builder.matrix(name, n, k)
    }

    pub fn vector(&mut self, name: &str, n: u32) -> WeightId {
        let name = format!("{}{name}", self.prefix);
        self.builder.vector(name, n)
    }

    /// A buffer in the type of activations.
    pub fn buffer(&mut self, name: &str, rows: Dim, columns: u32) -> BufferId {
        self.typed_buffer(name, self.precision.buffer(), rows, columns)
    }

    /// A buffer of logits, in f32 always.
    pub fn logits_buffer(&mut self, name: &str, columns: u32) -> BufferId {
        self.typed_buffer(name, Dtype::F32, Dim::OutputRows, columns)
    }

    fn typed_buffer(&mut self, name: &str, dtype: Dtype, rows: Dim, columns: u32) -> BufferId {
        let name = format!("{}{name}", self.prefix);
        self.builder.buffer(&name, dtype, rows, columns)
    }

    /// Columns of a buffer.
    pub fn columns_of(&self, buffer: BufferId) -> u32 {
        self.builder.buffer_columns(buffer)
    }
}
