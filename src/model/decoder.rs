use super::emitter::{AttentionShape, Emitter, FeedForwardShape, Stream};
use super::family::Family;
use super::{Features, ModelConfig, PlanOptions};
use crate::{Error, Result};
use stheno_codegen::plan::{
    Activation, BufferId, Dim, KvDecl, Op, Plan, PlanBuilder, RopeId, Segment, SegmentKind,
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
/// Both segments write f32 logits of the output rows to the buffer `logits`, the residual stream after each layer
/// of [`PlanOptions::taps`] to `tap.{layer}`, and [`PlanOptions::features`] of all rows to `features`. In the last layer
/// only output rows go on past the attention, unless features need all.
///
/// # Errors
/// If the options are out of range, or the configuration asks for something that its family does not have.
pub fn build_plan(config: &ModelConfig, options: &PlanOptions) -> Result<Plan> {
    Ok(target_plan(config, options)?.finish()?)
}

/// [`build_plan`] with room for a draft's segments.
pub(crate) fn target_plan(config: &ModelConfig, options: &PlanOptions) -> Result<PlanBuilder> {
    check(config, options)?;
    config.validate().map_err(Error::Invalid)?;
    let family = Family::find(&config.architectures, config.model_type.as_deref())?;
    let (name, context_length) = (family.model_type, options.context_length);
    let kv = kv_decl(config, options);
    let mut builder = PlanBuilder::new(name, config.vocab_size, context_length, kv);
    let (ops, outputs) = stack(config, options, "", &mut builder)?;
    let kinds = [
        (SegmentKind::Prefill, options.max_prefill_rows),
        (SegmentKind::Target, options.max_rows),
    ];
    for (kind, max_rows) in kinds {
        builder.segment(Segment {
            kind,
            max_rows,
            inputs: Vec::new(),
            outputs: outputs.clone(),
            ops: ops.clone(),
        });
    }
    Ok(builder)
}

/// The KV cache of a model.
pub(crate) fn kv_decl(config: &ModelConfig, options: &PlanOptions) -> KvDecl {
    KvDecl {
        layers: config.num_hidden_layers,
        num_key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        dtype: options.precision.kv,
    }
}

/// The ops of a model from tokens to `{prefix}logits`, and the buffers that they leave behind.
pub(crate) fn stack(
    config: &ModelConfig,
    options: &PlanOptions,
    prefix: &'static str,
    builder: &mut PlanBuilder,
) -> Result<(Vec<Op>, Vec<BufferId>)> {
    let family = Family::find(&config.architectures, config.model_type.as_deref())?;
    let rope = builder.rope(config.rope()?);
    let decoder = (family.decoder)(config)?;
    config.check_layer_types(&decoder.windows)?;
    let emit = Emitter {
        builder,
        precision: options.precision,
        prefix,
        eps: config.rms_norm_eps as f32,
        ops: Vec::new(),
    };
    let mut stack = Stack {
        config,
        options,
        decoder,
        activation: config.activation()?,
        rope,
        emit,
        outputs: Vec::new(),
    };
    stack.layers();
    Ok((stack.emit.ops, stack.outputs))
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
    let features: &[u32] = match &options.features {
        Features::None | Features::Final => &[],
        Features::Layers(layers) => layers,
    };
    let wanted = options.taps.iter().chain(features);
    match wanted.copied().find(|&tap| tap >= layers) {
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
    emit: Emitter<'a>,
    outputs: Vec<BufferId>,
}

impl Stack<'_> {
    fn layers(&mut self) {
        let config = self.config;
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let embedding = self.emit.matrix("model.embed_tokens.weight", vocab, hidden);
        let all = Stream {
            residual: self.emit.buffer("residual", Dim::Rows, hidden),
            attention: self
                .emit
                .buffer("attention", Dim::Rows, config.query_columns()),
            gated: self
                .emit
                .buffer("gated", Dim::Rows, config.intermediate_size),
        };
        let logits = self.emit.logits_buffer("logits", vocab);
        self.outputs.push(logits);
        let columns = self.options.features.columns(hidden);
        let features = (columns > 0).then(|| self.emit.buffer("features", Dim::Rows, columns));
        self.outputs.extend(features);
        self.emit.ops.push(Op::Embed {
            table: embedding,
            output: all.residual,
        });
        let last = config.num_hidden_layers - 1;
        for layer in 0..last {
            self.attention(layer, all);
            self.feed_forward(layer, all);
            if self.options.taps.contains(&layer) {
                let name = format!("tap.{layer}");
                let tap = self.emit.buffer(&name, Dim::OutputRows, hidden);
                self.emit.gather(all.residual, tap);
                self.outputs.push(tap);
            }
            self.feature(layer, all.residual, features);
        }
        let residual = self.last_layer(last, all, features);
        let norm = self.emit.norm("model.norm.weight", hidden);
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            self.emit.matrix("lm_head.weight", vocab, hidden)
        };
        self.emit.logits(residual, Some(norm), head, logits);
    }

    /// Returns the residual stream of the output rows: what goes on is cut to them as early as may be.
    fn last_layer(&mut self, last: u32, all: Stream, features: Option<BufferId>) -> BufferId {
        let config = self.config;
        let tapped = self.options.taps.contains(&last);
        let name = match tapped {
            true => format!("tap.{last}"),
            false => "residual.output".to_owned(),
        };
        let residual = self.emit.buffer(&name, Dim::OutputRows, config.hidden_size);
        if tapped {
            self.outputs.push(residual);
        }
        self.attention(last, all);
        let of_all_rows = match &self.options.features {
            Features::None => false,
            Features::Final => true,
            Features::Layers(layers) => layers.contains(&last),
        };
        if of_all_rows {
            self.feed_forward(last, all);
            self.feature(last, all.residual, features);
            if let (Features::Final, Some(features)) = (&self.options.features, features) {
                let norm = self.emit.norm("model.norm.weight", config.hidden_size);
                self.emit.copy(all.residual, Some(norm), features, 0);
            }
            self.emit.gather(all.residual, residual);
            return residual;
        }
        let mut output = |name, columns| self.emit.buffer(name, Dim::OutputRows, columns);
        let output = Stream {
            residual,
            attention: output("attention.output", config.query_columns()),
            gated: output("gated.output", config.intermediate_size),
        };
        self.emit.gather(all.residual, output.residual);
        self.emit.gather(all.attention, output.attention);
        self.feed_forward(last, output);
        residual
    }

    /// Copies the residual stream after a layer to its place in the features, as often as they name it.
    fn feature(&mut self, layer: u32, residual: BufferId, features: Option<BufferId>) {
        if let (Features::Layers(layers), Some(features)) = (&self.options.features, features) {
            for (i, _) in (0u32..).zip(layers).filter(|(_, l)| **l == layer) {
                let start = i * self.config.hidden_size;
                self.emit.copy(residual, None, features, start);
            }
        }
    }

    fn attention(&mut self, layer: u32, stream: Stream) {
        let config = self.config;
        let name = format!("model.layers.{layer}");
        let norm = format!("{name}.input_layernorm.weight");
        let norm = self.emit.norm(&norm, config.hidden_size);
        let shape = AttentionShape {
            layer,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            rope: self.rope,
            qkv_bias: self.decoder.qkv_bias,
            head_norm: self.decoder.head_norm,
            window: self.decoder.windows.get(layer as usize).copied().flatten(),
        };
        let (input, output) = (stream.residual, stream.attention);
        self.emit.attention(&name, shape, input, Some(norm), output);
    }

    fn feed_forward(&mut self, layer: u32, stream: Stream) {
        let shape = FeedForwardShape {
            hidden_size: self.config.hidden_size,
            intermediate_size: self.config.intermediate_size,
            query_columns: self.config.query_columns(),
            activation: self.activation,
            o_bias: self.decoder.o_bias,
            mlp_bias: self.decoder.mlp_bias,
        };
        let name = format!("model.layers.{layer}");
        self.emit.feed_forward(&name, shape, stream);
    }
}
