//! Plans with drafts that are fed hidden states: an EAGLE-3 layer and Medusa heads for the toy model.

use crate::models::{self, TOY};
use stheno_codegen::plan::{
    Activation, BufferDecl, BufferId, Columns, Dim, DraftDecl, Dtype, Epilogue, InputDtype, KvDecl,
    Linear, Norm, Op, Part, Plan, QkvEpilogue, RopeId, Segment, SegmentKind, WeightDecl, WeightId,
    WeightShape,
};

/// Token ids of the drafts.
const VOCAB: u32 = 44;

/// The toy model with a draft under construction.
struct Draft {
    plan: Plan,
    ops: Vec<Op>,
}

impl Draft {
    fn new(kind: &str, layers: u32) -> Self {
        let mut plan = models::plan(models::Sizes {
            draft: false,
            ..TOY
        });
        let kv = KvDecl { layers, ..plan.kv };
        plan.draft = Some(DraftDecl {
            kind: kind.to_owned(),
            kv,
            vocab_size: TOY.vocab,
        });
        let ops = Vec::new();
        Draft { plan, ops }
    }

    fn weight(&mut self, name: &str, shape: WeightShape) -> WeightId {
        let known = self.plan.weights.iter().position(|w| w.name == name);
        let index = known.unwrap_or_else(|| {
            self.plan.weights.push(WeightDecl {
                name: name.to_owned(),
                shape,
            });
            self.plan.weights.len() - 1
        });
        WeightId(index as u32)
    }

    fn norm(&mut self, name: &str) -> Norm {
        let weight = self.weight(name, WeightShape::Vector { n: TOY.hidden });
        Norm { weight, eps: 1e-5 }
    }

    fn buffer(&mut self, name: &str, rows: Dim, columns: u32) -> BufferId {
        if let Some(known) = self.plan.buffer_named(name) {
            return known;
        }
        self.plan.buffers.push(BufferDecl {
            name: name.to_owned(),
            dtype: Dtype::F32,
            rows,
            columns,
        });
        BufferId(self.plan.buffers.len() as u32 - 1)
    }

    fn columns(&self, buffer: BufferId) -> u32 {
        self.plan.buffer(buffer).columns
    }

    fn copy(&self, input: BufferId, norm: Option<Norm>, output: BufferId, start: u32) -> Op {
        let columns = |buffer, start| Columns {
            buffer,
            start,
            count: self.columns(input),
        };
        Op::Copy {
            input: columns(input, 0),
            norm,
            output: columns(output, start),
        }
    }

    fn linear(&mut self, input: BufferId, norm: Option<Norm>, parts: &[(&str, u32)], to: Epilogue) {
        let k = self.columns(input);
        let part = |&(name, n): &(&str, u32)| Part {
            weight: self.weight(name, WeightShape::Matrix { n, k }),
            bias: None,
        };
        let parts = parts.iter().map(part).collect();
        self.ops.push(Op::Linear(Linear {
            input,
            norm,
            input_dtype: InputDtype::BF16,
            parts,
            epilogue: to,
        }));
    }

    fn segment(&mut self, kind: SegmentKind, inputs: Vec<BufferId>, outputs: Vec<BufferId>) {
        let ops = std::mem::take(&mut self.ops);
        self.plan.segments.push(Segment {
            kind,
            max_rows: 16,
            inputs,
            outputs,
            ops,
        });
    }

    /// Adds ops to the target, each after op `at` of what was there, and an output.
    fn feed(&mut self, mut ops: Vec<(usize, Op)>, features: BufferId) {
        ops.sort_by_key(|(at, _)| *at);
        for segment in &mut self.plan.segments {
            for (at, op) in ops.iter().rev() {
                segment.ops.insert(at + 1, op.clone());
            }
            segment.outputs.push(features);
        }
    }

    fn finish(self) -> Plan {
        self.plan.validate().unwrap();
        self.plan
    }
}

/// Fed the residual after both layers; extend and draft.
pub fn eagle3() -> Plan {
    let mut d = Draft::new("eagle3", 1);
    let hidden = TOY.hidden;
    let features = d.buffer("features", Dim::Rows, 2 * hidden);
    let residual = d.plan.buffer_named("residual").unwrap();
    let taps = [(5, 0), (10, hidden)];
    let taps = taps.map(|(at, start)| (at, d.copy(residual, None, features, start)));
    d.feed(taps.to_vec(), features);
    for kind in [SegmentKind::Extend, SegmentKind::Draft] {
        eagle3_segment(&mut d, kind, features);
    }
    d.finish()
}

fn eagle3_segment(d: &mut Draft, kind: SegmentKind, features: BufferId) {
    let (hidden, queries) = (TOY.hidden, TOY.heads * TOY.head_dim);
    let keys = TOY.kv_heads * TOY.head_dim;
    let embedding = d.buffer("draft.embedding", Dim::Rows, hidden);
    let pair = d.buffer("draft.pair", Dim::Rows, 2 * hidden);
    let residual = d.buffer("draft.residual", Dim::Rows, hidden);
    let (embedding_norm, hidden_norm) = (d.norm("draft.input_norm"), d.norm("draft.hidden_norm"));
    d.ops.push(Op::Embed {
        table: WeightId(0),
        output: embedding,
    });
    let copy = d.copy(embedding, Some(embedding_norm), pair, 0);
    d.ops.push(copy);
    let input = match kind {
        SegmentKind::Draft => d.buffer("draft.feedback", Dim::Rows, hidden),
        _ => features,
    };
    let stream = match kind {
        SegmentKind::Draft => input,
        _ => {
            let store = Epilogue::Store { output: residual };
            d.linear(features, None, &[("draft.fc", hidden)], store);
            residual
        }
    };
    let copy = d.copy(stream, Some(hidden_norm), pair, hidden);
    d.ops.push(copy);
    if stream != residual {
        let copy = d.copy(stream, None, residual, 0);
        d.ops.push(copy);
    }
    let q = d.buffer("draft.q", Dim::Rows, queries);
    let qkv = Epilogue::Qkv(QkvEpilogue {
        q,
        layer: 0,
        rope: RopeId(0),
        q_norm: None,
        k_norm: None,
    });
    let parts = [("draft.q", queries), ("draft.k", keys), ("draft.v", keys)];
    let parts = parts.map(|(name, n)| (format!("{name}_proj"), n));
    let parts: Vec<(&str, u32)> = parts.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    d.linear(pair, None, &parts, qkv);
    let attention = d.buffer("draft.attention", Dim::Rows, queries);
    d.ops.push(Op::Attention {
        q,
        output: attention,
        layer: 0,
        scale: 0.125,
        window: None,
    });
    let result = d.buffer("draft.hidden", Dim::OutputRows, hidden);
    let attended = d.buffer("draft.attention.output", Dim::OutputRows, queries);
    let gated = d.buffer("draft.gated.output", Dim::OutputRows, TOY.intermediate);
    for (input, output) in [(residual, result), (attention, attended)] {
        d.ops.push(Op::Gather { input, output });
    }
    let add = Epilogue::Residual {
        residual: result,
        activation: None,
    };
    d.linear(attended, None, &[("draft.o", hidden)], add.clone());
    let gate = Epilogue::Gated {
        activation: Activation::Silu,
        output: gated,
    };
    let norm = d.norm("draft.post_norm");
    let parts = [
        ("draft.gate", TOY.intermediate),
        ("draft.up", TOY.intermediate),
    ];
    d.linear(result, Some(norm), &parts, gate);
    d.linear(gated, None, &[("draft.down", hidden)], add);
    let logits = d.buffer("draft.logits", Dim::OutputRows, VOCAB);
    let norm = d.norm("draft.norm");
    let store = Epilogue::Store { output: logits };
    d.linear(result, Some(norm), &[("draft.head", VOCAB)], store);
    d.segment(kind, vec![input], vec![logits, result]);
}

/// Fed the normed residual; a head of one block and one of two.
pub fn medusa() -> Plan {
    let mut d = Draft::new("medusa", 0);
    let hidden = TOY.hidden;
    let features = d.buffer("features", Dim::Rows, hidden);
    let residual = d.plan.buffer_named("residual").unwrap();
    let norm = d.norm("norm");
    let copy = d.copy(residual, Some(norm), features, 0);
    d.feed(vec![(10, copy)], features);
    let last = d.buffer("draft.features", Dim::OutputRows, hidden);
    d.ops.push(Op::Gather {
        input: features,
        output: last,
    });
    let mut outputs = Vec::new();
    for (head, blocks) in [(0, 1), (1, 2)] {
        let x = d.buffer(&format!("draft.head.{head}"), Dim::OutputRows, hidden);
        let copy = d.copy(last, None, x, 0);
        d.ops.push(copy);
        for block in 0..blocks {
            let mut input = last;
            if block > 0 {
                input = d.buffer("draft.head.input", Dim::OutputRows, hidden);
                let copy = d.copy(x, None, input, 0);
                d.ops.push(copy);
            }
            let add = Epilogue::Residual {
                residual: x,
                activation: Some(Activation::Silu),
            };
            let name = format!("draft.{head}.{block}");
            d.linear(input, None, &[(name.as_str(), hidden)], add);
        }
        let logits = d.buffer(&format!("draft.logits.{head}"), Dim::OutputRows, VOCAB);
        let store = Epilogue::Store { output: logits };
        let name = format!("draft.{head}.head");
        d.linear(x, None, &[(name.as_str(), VOCAB)], store);
        outputs.push(logits);
    }
    d.segment(SegmentKind::Draft, vec![features], outputs);
    d.finish()
}
