//! Plans with the shapes of known models.

use stheno_codegen::plan::{
    Activation, BufferId, Dim, DraftDecl, Dtype, Epilogue, InputDtype, KvDecl, Linear, Norm, Op,
    Part, Plan, PlanBuilder, QkvEpilogue, RopeDecl, Segment, SegmentKind, WeightId,
};

/// Sizes of a decoder of the Llama shape.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub name: &'static str,
    pub layers: u32,
    pub hidden: u32,
    pub intermediate: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub vocab: u32,
    pub tied: bool,
    /// A draft layer that shares the target's head.
    pub draft: bool,
}

pub const LLAMA_8B: Sizes = Sizes {
    name: "Llama-3.1-8B",
    layers: 32,
    hidden: 4096,
    intermediate: 14336,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    vocab: 128256,
    tied: false,
    draft: false,
};

pub const LLAMA_1B: Sizes = Sizes {
    name: "Llama-3.2-1B",
    layers: 16,
    hidden: 2048,
    intermediate: 8192,
    heads: 32,
    kv_heads: 8,
    head_dim: 64,
    vocab: 128256,
    tied: true,
    draft: false,
};

pub const QWEN3_8B: Sizes = Sizes {
    name: "Qwen3-8B",
    layers: 36,
    hidden: 4096,
    intermediate: 12288,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    vocab: 151936,
    tied: false,
    draft: false,
};

pub const SMOLLM2_135M: Sizes = Sizes {
    name: "SmolLM2-135M",
    layers: 30,
    hidden: 576,
    intermediate: 1536,
    heads: 9,
    kv_heads: 3,
    head_dim: 64,
    vocab: 49152,
    tied: true,
    draft: false,
};

/// Two layers of odd sizes and a draft: no size is a multiple of a chunk, the last tiles are not full.
pub const TOY: Sizes = Sizes {
    name: "toy",
    layers: 2,
    hidden: 96,
    intermediate: 584,
    heads: 4,
    kv_heads: 2,
    head_dim: 32,
    vocab: 77,
    tied: true,
    draft: true,
};

/// The plan of a decoder.
pub fn plan(sizes: Sizes) -> Plan {
    let kv = KvDecl {
        layers: sizes.layers,
        num_key_value_heads: sizes.kv_heads,
        head_dim: sizes.head_dim,
        dtype: Dtype::BF16,
    };
    let mut b = PlanBuilder::new(sizes.name, sizes.vocab, 4096, kv);
    b.look_up();
    let embed = b.matrix("embed", sizes.vocab, sizes.hidden);
    let head = match sizes.tied {
        true => embed,
        false => b.matrix("head", sizes.vocab, sizes.hidden),
    };
    let mut segments = Vec::new();
    let mut model = Model { b: &mut b, sizes };
    let residual = model.buffer("residual", sizes.hidden);
    let logits = model.buffer("logits", sizes.vocab);
    let mut ops = vec![Op::Embed {
        table: embed,
        output: residual,
    }];
    for layer in 0..sizes.layers {
        model.layer(&format!("{layer}."), layer, residual, &mut ops);
    }
    ops.push(model.head(head, residual, logits));
    for (kind, max_rows) in [(SegmentKind::Prefill, 128), (SegmentKind::Target, 64)] {
        segments.push((kind, max_rows, ops.clone()));
    }
    if sizes.draft {
        let hidden = model.buffer("draft.hidden", sizes.hidden);
        let mut ops = vec![Op::Embed {
            table: embed,
            output: hidden,
        }];
        model.layer("draft.", 0, hidden, &mut ops);
        ops.push(model.head(head, hidden, logits));
        segments.push((SegmentKind::Draft, 8, ops));
        b.draft(DraftDecl {
            kind: "layer".to_owned(),
            kv: KvDecl { layers: 1, ..kv },
            vocab_size: sizes.vocab,
        });
    }
    for (kind, max_rows, ops) in segments {
        b.segment(Segment {
            kind,
            max_rows,
            inputs: Vec::new(),
            outputs: vec![logits],
            ops,
        });
    }
    b.finish().unwrap()
}

struct Model<'a> {
    b: &'a mut PlanBuilder,
    sizes: Sizes,
}

impl Model<'_> {
    fn buffer(&mut self, name: &str, columns: u32) -> BufferId {
        self.b.buffer(name, Dtype::F32, Dim::Rows, columns)
    }

    fn part(&mut self, name: String, n: u32, k: u32) -> Part {
        Part {
            weight: self.b.matrix(name, n, k),
            bias: None,
        }
    }

    fn linear(
        &mut self,
        input: BufferId,
        normed: bool,
        parts: Vec<Part>,
        epilogue: Epilogue,
    ) -> Op {
        let weight = self.b.vector("norm", self.sizes.hidden);
        Op::Linear(Linear {
            input,
            norm: normed.then_some(Norm { weight, eps: 1e-5 }),
            input_dtype: InputDtype::BF16,
            parts,
            epilogue,
        })
    }

    fn head(&mut self, head: WeightId, input: BufferId, output: BufferId) -> Op {
        let parts = vec![Part {
            weight: head,
            bias: None,
        }];
        self.linear(input, true, parts, Epilogue::Store { output })
    }

    fn layer(&mut self, prefix: &str, layer: u32, residual: BufferId, ops: &mut Vec<Op>) {
        let Sizes {
            hidden,
            intermediate,
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.sizes;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let rope = self.b.rope(RopeDecl {
            inv_freq: vec![1.0; head_dim as usize / 2],
            attention_factor: 1.0,
            dynamic: None,
        });
        let q = self.buffer("q", queries);
        let attention = self.buffer("attention", queries);
        let gated = self.buffer("gated", intermediate);
        let mut part = |name: &str, n, k| self.part(format!("{prefix}{name}"), n, k);
        let qkv = vec![
            part("q", queries, hidden),
            part("k", keys, hidden),
            part("v", keys, hidden),
        ];
        let o = vec![part("o", hidden, queries)];
        let gate_up = vec![
            part("gate", intermediate, hidden),
            part("up", intermediate, hidden),
        ];
        let down = vec![part("down", hidden, intermediate)];
        let add = Epilogue::Residual {
            residual,
            activation: None,
        };
        let append = Epilogue::Qkv(QkvEpilogue {
            q,
            layer,
            rope,
            q_norm: None,
            k_norm: None,
        });
        let gate = Epilogue::Gated {
            activation: Activation::Silu,
            output: gated,
        };
        ops.push(self.linear(residual, true, qkv, append));
        ops.push(Op::Attention {
            q,
            output: attention,
            layer,
            scale: 0.125,
            window: None,
        });
        ops.push(self.linear(attention, false, o, add.clone()));
        ops.push(self.linear(residual, true, gate_up, gate));
        ops.push(self.linear(gated, false, down, add));
    }
}
