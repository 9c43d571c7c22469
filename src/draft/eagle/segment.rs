use super::super::drafter::DraftModel;
use super::super::target_head;
use super::Eagle;
use super::layout::{Layout, Version};
use crate::Result;
use crate::model::{AttentionShape, Emitter, FeedForwardShape, ModelConfig, PlanOptions, Stream};
use std::sync::Arc;
use stheno_codegen::plan::{
    BufferId, DRAFT_PREFIX, Dim, Epilogue, Op, PlanBuilder, RopeId, Segment, SegmentKind,
};

/// One segment under construction.
struct Layers<'a> {
    eagle: &'a Eagle,
    target: &'a ModelConfig,
    /// Whether hidden states are the target's, or those that the draft fed back.
    true_features: bool,
    emit: Emitter<'a>,
}

impl Eagle {
    /// One segment of the draft.
    pub(super) fn segment(
        &self,
        kind: SegmentKind,
        max_rows: u32,
        target: &ModelConfig,
        options: &PlanOptions,
        builder: &mut PlanBuilder,
    ) -> Result<Segment> {
        let mut config = self.layout.config.clone();
        config.rope_theta = self.rope_theta;
        let rope = builder.rope(config.rope()?);
        let hidden = config.hidden_size;
        let emit = Emitter {
            builder,
            precision: options.precision,
            prefix: DRAFT_PREFIX,
            eps: config.rms_norm_eps as f32,
            ops: Vec::new(),
        };
        let mut layers = Layers {
            eagle: self,
            target,
            true_features: kind != SegmentKind::Draft,
            emit,
        };
        let fed = layers.fed();
        let all = Stream {
            residual: layers.emit.buffer("residual", Dim::Rows, hidden),
            attention: layers
                .emit
                .buffer("attention", Dim::Rows, config.query_columns()),
            gated: layers
                .emit
                .buffer("gated", Dim::Rows, config.intermediate_size),
        };
        let attended = layers.input(fed, all.residual);
        let (result, logits) = layers.run(&config, rope, attended, all)?;
        Ok(Segment {
            kind,
            max_rows,
            inputs: vec![fed],
            outputs: vec![logits, result],
            ops: layers.emit.ops,
        })
    }
}

impl Layers<'_> {
    fn layout(&self) -> &Layout {
        &self.eagle.layout
    }

    /// The buffer of hidden states that come from outside.
    fn fed(&mut self) -> BufferId {
        if self.true_features {
            let columns = self.eagle.features().columns(self.target.hidden_size);
            let dtype = self.emit.precision.buffer();
            // The target's own buffer.
            return (self.emit.builder).buffer("features", dtype, Dim::Rows, columns);
        }
        let hidden = self.layout().config.hidden_size;
        self.emit.buffer("feedback", Dim::Rows, hidden)
    }

    /// Embeds the tokens, joins them with the hidden states, fills the residual stream; returns what the first layer
    /// attends from.
    fn input(&mut self, fed: BufferId, residual: BufferId) -> BufferId {
        let hidden = self.layout().config.hidden_size;
        let table = match &self.layout().embedding {
            Some(name) if hidden != self.target.hidden_size => {
                let name = name.clone();
                self.emit.matrix(&name, self.target.vocab_size, hidden)
            }
            _ => {
                let name = "model.embed_tokens.weight";
                (self.emit.builder).matrix(name, self.target.vocab_size, hidden)
            }
        };
        let embedding = self.emit.buffer("embedding", Dim::Rows, hidden);
        self.emit.ops.push(Op::Embed {
            table,
            output: embedding,
        });
        match self.layout().version {
            Version::One => {
                let width = hidden + self.target.hidden_size;
                let pair = self.emit.buffer("pair", Dim::Rows, width);
                self.emit.copy(embedding, None, pair, 0);
                self.emit.copy(fed, None, pair, hidden);
                self.fc(pair, residual);
                residual
            }
            Version::Three => {
                let first = self.layout().layers[0].clone();
                let norm = format!("{first}.input_layernorm.weight");
                let embedding_norm = self.emit.norm(&norm, hidden);
                let hidden_norm = self
                    .emit
                    .norm(&format!("{first}.hidden_norm.weight"), hidden);
                let pair = self.emit.buffer("pair", Dim::Rows, 2 * hidden);
                self.emit.copy(embedding, Some(embedding_norm), pair, 0);
                // A device holds one hidden state of a row at a time: the embedding is done with before this one begins.
                let stream = self.projected(fed, residual);
                self.emit.copy(stream, Some(hidden_norm), pair, hidden);
                let norm = self.layout().norm_before_residual.then_some(hidden_norm);
                if stream != residual {
                    self.emit.copy(stream, norm, residual, 0);
                }
                pair
            }
        }
    }

    /// Hidden states in the draft's width: in the residual stream itself, unless that is to be made of them.
    fn projected(&mut self, fed: BufferId, residual: BufferId) -> BufferId {
        if !self.true_features {
            return fed;
        }
        let hidden = self.layout().config.hidden_size;
        let mut from = fed;
        let norms = self.layout().fc_norms.clone();
        if !norms.is_empty() {
            let width = self.target.hidden_size;
            let columns = norms.len() as u32 * width;
            let normed = self.emit.buffer("features.normed", Dim::Rows, columns);
            for (i, name) in (0u32..).zip(&norms) {
                let norm = self.emit.norm(name, width);
                self.emit
                    .copy_columns((fed, i * width), Some(norm), (normed, i * width), width);
            }
            from = normed;
        }
        let to = match self.layout().norm_before_residual {
            true => self.emit.buffer("projected", Dim::Rows, hidden),
            false => residual,
        };
        self.fc(from, to);
        to
    }

    fn fc(&mut self, from: BufferId, to: BufferId) {
        let layout = self.layout();
        let (name, bias, hidden) = (layout.fc.clone(), layout.fc_bias, layout.config.hidden_size);
        let k = self.emit.columns_of(from);
        let part = self.emit.part(&name, hidden, k, bias);
        let store = Epilogue::Store { output: to };
        self.emit.linear(from, None, vec![part], store);
    }

    /// The layers and the head; returns the buffers of what is fed back and of the logits.
    fn run(
        &mut self,
        config: &ModelConfig,
        rope: RopeId,
        attended: BufferId,
        all: Stream,
    ) -> Result<(BufferId, BufferId)> {
        let layout = Arc::clone(&self.eagle.layout);
        let hidden = config.hidden_size;
        let result_name = match layout.norm_output {
            true => "residual.output",
            false => "hidden",
        };
        let mut output = |name: &str, columns| self.emit.buffer(name, Dim::OutputRows, columns);
        let output = Stream {
            residual: output(result_name, hidden),
            attention: output("attention.output", config.query_columns()),
            gated: output("gated.output", config.intermediate_size),
        };
        let last = layout.layers.len() - 1;
        for (i, name) in layout.layers.iter().enumerate() {
            let (input, norm) = match i {
                0 => (attended, None),
                _ => {
                    let norm = format!("{name}.input_layernorm.weight");
                    (all.residual, Some(self.emit.norm(&norm, hidden)))
                }
            };
            let shape = AttentionShape {
                layer: i as u32,
                num_attention_heads: config.num_attention_heads,
                num_key_value_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
                rope,
                qkv_bias: layout.qkv_bias,
                head_norm: false,
                window: None,
            };
            self.emit.attention(name, shape, input, norm, all.attention);
            let stream = if i == last {
                self.emit.gather(all.residual, output.residual);
                self.emit.gather(all.attention, output.attention);
                output
            } else {
                all
            };
            let shape = FeedForwardShape {
                hidden_size: hidden,
                intermediate_size: config.intermediate_size,
                query_columns: config.query_columns(),
                activation: config.activation()?,
                o_bias: false,
                mlp_bias: false,
            };
            self.emit.feed_forward(name, shape, stream);
        }
        let logits = self.emit.logits_buffer("logits", layout.draft_vocab_size);
        let norm = layout
            .norm
            .as_ref()
            .map(|name| self.emit.norm(name, hidden));
        let head = match &layout.lm_head {
            Some(name) => self.emit.matrix(name, layout.draft_vocab_size, hidden),
            None => target_head(self.target, self.emit.builder),
        };
        if !layout.norm_output {
            self.emit.logits(output.residual, norm, head, logits);
            return Ok((output.residual, logits));
        }
        let result = self.emit.buffer("hidden", Dim::OutputRows, hidden);
        self.emit.copy(output.residual, norm, result, 0);
        self.emit.logits(result, None, head, logits);
        Ok((result, logits))
    }
}
