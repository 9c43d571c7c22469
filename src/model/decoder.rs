use super::family::Family;
use super::{ModelConfig, PlanOptions};
use crate::{Error, Result};
use stheno_codegen::plan::{
    Activation, BufferId, Dim, Dtype, Epilogue, KvDecl, Linear, Norm, Op, Part, Plan, PlanBuilder,
    QkvEpilogue, RopeId, SegmentKind, WeightId,
};

/// Positions beyond this are no longer exact in f32, which rotations are computed in.
const MAX_CONTEXT_LENGTH: u32 = 1 << 24;

/// Largest number of rows of one call.
const MAX_ROWS: u32 = 1 << 16;

/// Options of the shared block that a family chooses; the sizes are the configuration's.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub o_bias: bool,
    /// Biases on gate, up and down.
    pub mlp_bias: bool,
    /// Norms over each head of q and k.
    pub head_norm: bool,
    /// Sliding window of each layer.
    pub windows: Vec<Option<u32>>,
}

impl Decoder {
    /// No biases, no head norms, no windows.
    pub(super) fn new(config: &ModelConfig) -> Self {
        Decoder {
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            head_norm: false,
            windows: vec![None; config.num_hidden_layers as usize],
        }
    }
}

/// Builds the plan of a model: a prefill and a target segment over the same weights.
///
/// Both segments write f32 logits of the output rows to the buffer `logits`, and the residual stream after each layer
/// of [`PlanOptions::taps`] to `tap.{layer}`. In the last layer only output rows go on past the attention.
///
/// # Errors
/// If the options are out of range, or the configuration asks for something that its family does not have.
pub fn build_plan(config: &ModelConfig, options: &PlanOptions) -> Result<Plan> {
    check(config, options)?;
    config.validate().map_err(Error::Invalid)?;
    let family = Family::find(&config.architectures, config.model_type.as_deref())?;
    let kv = KvDecl {
        layers: config.num_hidden_layers,
        num_key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        dtype: options.precision.kv,
    };
    let context_length = options.context_length;
    let mut builder = PlanBuilder::new(family.model_type, config.vocab_size, context_length, kv);
    let rope = builder.rope(config.rope()?);
    let decoder = (family.decoder)(config)?;
    config.check_layer_types(&decoder.windows)?;
    let mut stack = Stack {
        config,
        options,
        decoder,
        activation: config.activation()?,
        rope,
        builder,
    };
    let ops = stack.ops();
    let mut builder = stack.builder;
    builder.segment(SegmentKind::Prefill, options.max_prefill_rows, ops.clone());
    builder.segment(SegmentKind::Target, options.max_rows, ops);
    Ok(builder.finish()?)
}

fn check(config: &ModelConfig, options: &PlanOptions) -> Result<()> {
    let invalid = |text: String| Err(Error::Invalid(text));
    let context = options.context_length;
    if !(1..=MAX_CONTEXT_LENGTH).contains(&context) {
        return invalid(format!(
            "a context of {context} positions; there may be 1 to {MAX_CONTEXT_LENGTH}"
        ));
    }
    for rows in [options.max_prefill_rows, options.max_rows] {
        if !(1..=MAX_ROWS).contains(&rows) {
            return invalid(format!("{rows} rows a call; there may be 1 to {MAX_ROWS}"));
        }
    }
    let layers = config.num_hidden_layers;
    match options.taps.iter().find(|&&tap| tap >= layers) {
        Some(tap) => invalid(format!(
            "hidden states of layer {tap}, of a model of {layers} layers counted from 0"
        )),
        None => Ok(()),
    }
}

/// Emits the ops of the layer stack.
struct Stack<'a> {
    config: &'a ModelConfig,
    options: &'a PlanOptions,
    decoder: Decoder,
    activation: Activation,
    rope: RopeId,
    builder: PlanBuilder,
}

/// Buffers that the second half of a layer works on.
#[derive(Clone, Copy)]
struct Stream {
    /// [_, hidden_size], the residual stream.
    residual: BufferId,
    /// [_, num_attention_heads * head_dim].
    attention: BufferId,
    /// [_, intermediate_size].
    gated: BufferId,
}

impl Stack<'_> {
    fn ops(&mut self) -> Vec<Op> {
        let config = self.config;
        let embedding = self.matrix(
            "model.embed_tokens.weight",
            config.vocab_size,
            config.hidden_size,
        );
        let all = Stream {
            residual: self.buffer("residual", Dim::Rows, config.hidden_size),
            attention: self.buffer("attention", Dim::Rows, config.query_columns()),
            gated: self.buffer("gated", Dim::Rows, config.intermediate_size),
        };
        let last = config.num_hidden_layers - 1;
        let output = self.output_stream(last);
        let mut ops = vec![Op::Embed {
            table: embedding,
            output: all.residual,
        }];
        for layer in 0..=last {
            self.attention(layer, all, &mut ops);
            if layer == last {
                for (input, output) in [
                    (all.residual, output.residual),
                    (all.attention, output.attention),
                ] {
                    ops.push(Op::Gather { input, output });
                }
                self.feed_forward(layer, output, &mut ops);
            } else {
                self.feed_forward(layer, all, &mut ops);
                if self.options.taps.contains(&layer) {
                    let name = format!("tap.{layer}");
                    let output = self.buffer(&name, Dim::OutputRows, config.hidden_size);
                    let input = all.residual;
                    ops.push(Op::Gather { input, output });
                }
            }
        }
        self.head(embedding, output, &mut ops);
        ops
    }

    /// Buffers of the output rows. The residual stream after the last layer is the tap of that layer, if asked for.
    fn output_stream(&mut self, last: u32) -> Stream {
        let config = self.config;
        let residual = if self.options.taps.contains(&last) {
            format!("tap.{last}")
        } else {
            "residual.output".to_owned()
        };
        Stream {
            residual: self.buffer(&residual, Dim::OutputRows, config.hidden_size),
            attention: self.buffer("attention.output", Dim::OutputRows, config.query_columns()),
            gated: self.buffer("gated.output", Dim::OutputRows, config.intermediate_size),
        }
    }

    /// Norm, q/k/v with rotation and append, attention.
    fn attention(&mut self, layer: u32, stream: Stream, ops: &mut Vec<Op>) {
        let config = self.config;
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let kv_columns = config.key_value_columns();
        let q = self.buffer("q", Dim::Rows, config.query_columns());
        let name = |suffix: &str| format!("model.layers.{layer}.{suffix}");
        let norm = self.norm(&name("input_layernorm.weight"), hidden);
        let bias = self.decoder.qkv_bias;
        let parts = vec![
            self.part(
                &name("self_attn.q_proj"),
                config.query_columns(),
                hidden,
                bias,
            ),
            self.part(&name("self_attn.k_proj"), kv_columns, hidden, bias),
            self.part(&name("self_attn.v_proj"), kv_columns, hidden, bias),
        ];
        let mut head_norm = |suffix| {
            let with = self.decoder.head_norm;
            with.then(|| self.norm(&name(suffix), head_dim))
        };
        let epilogue = Epilogue::Qkv(QkvEpilogue {
            q,
            layer,
            q_norm: head_norm("self_attn.q_norm.weight"),
            k_norm: head_norm("self_attn.k_norm.weight"),
            rope: self.rope,
        });
        ops.push(self.linear(stream.residual, hidden, Some(norm), parts, epilogue));
        ops.push(Op::Attention {
            q,
            output: stream.attention,
            layer,
            scale: (1.0 / f64::from(head_dim).sqrt()) as f32,
            window: self.decoder.windows.get(layer as usize).copied().flatten(),
        });
    }

    /// Output projection of the attention, norm, gated feed-forward.
    fn feed_forward(&mut self, layer: u32, stream: Stream, ops: &mut Vec<Op>) {
        let config = self.config;
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let (o_bias, mlp_bias) = (self.decoder.o_bias, self.decoder.mlp_bias);
        let name = |suffix: &str| format!("model.layers.{layer}.{suffix}");
        let residual = stream.residual;

        let columns = config.query_columns();
        let parts = vec![self.part(&name("self_attn.o_proj"), hidden, columns, o_bias)];
        let add = Epilogue::Residual { residual };
        ops.push(self.linear(stream.attention, columns, None, parts, add));

        let norm = self.norm(&name("post_attention_layernorm.weight"), hidden);
        let parts = vec![
            self.part(&name("mlp.gate_proj"), intermediate, hidden, mlp_bias),
            self.part(&name("mlp.up_proj"), intermediate, hidden, mlp_bias),
        ];
        let gated = Epilogue::Gated {
            activation: self.activation,
            output: stream.gated,
        };
        ops.push(self.linear(residual, hidden, Some(norm), parts, gated));

        let parts = vec![self.part(&name("mlp.down_proj"), hidden, intermediate, mlp_bias)];
        let add = Epilogue::Residual { residual };
        ops.push(self.linear(stream.gated, intermediate, None, parts, add));
    }

    /// Final norm and logits.
    fn head(&mut self, embedding: WeightId, stream: Stream, ops: &mut Vec<Op>) {
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden_size);
        let norm = self.norm("model.norm.weight", hidden);
        let weight = if self.config.tie_word_embeddings {
            embedding
        } else {
            self.matrix("lm_head.weight", vocab, hidden)
        };
        let logits = (self.builder).buffer("logits", Dtype::F32, Dim::OutputRows, vocab);
        let parts = vec![Part { weight, bias: None }];
        let store = Epilogue::Store { output: logits };
        ops.push(self.linear(stream.residual, hidden, Some(norm), parts, store));
    }

    fn linear(
        &self,
        input: BufferId,
        k: u32,
        norm: Option<Norm>,
        parts: Vec<Part>,
        epilogue: Epilogue,
    ) -> Op {
        Op::Linear(Linear {
            input,
            norm,
            input_dtype: self.options.precision.input(k),
            parts,
            epilogue,
        })
    }

    fn part(&mut self, name: &str, n: u32, k: u32, bias: bool) -> Part {
        let weight = self.matrix(&format!("{name}.weight"), n, k);
        let bias = bias.then(|| self.builder.vector(format!("{name}.bias"), n));
        Part { weight, bias }
    }

    fn norm(&mut self, name: &str, n: u32) -> Norm {
        Norm {
            weight: self.builder.vector(name, n),
            eps: self.config.rms_norm_eps as f32,
        }
    }

    fn matrix(&mut self, name: &str, n: u32, k: u32) -> WeightId {
        self.builder.matrix(name, n, k)
    }

    fn buffer(&mut self, name: &str, rows: Dim, columns: u32) -> BufferId {
        let dtype = self.options.precision.buffer();
        self.builder.buffer(name, dtype, rows, columns)
    }
}
