//! A small plan that runs, to break.

use stheno_codegen::plan::{
    Activation, BufferId, Columns, Dim, DraftDecl, Dtype, DynamicNtk, Epilogue, InputDtype, KvDecl,
    Linear, Norm, Op, Part, Plan, PlanBuilder, QkvEpilogue, RopeDecl, Segment, SegmentKind,
    WeightId,
};

/// Two heads of 16 in one layer.
pub const KV: KvDecl = KvDecl {
    layers: 1,
    num_key_value_heads: 2,
    head_dim: 16,
    dtype: Dtype::F16,
};

fn linear(input: BufferId, norm: Option<WeightId>, parts: &[Part], epilogue: Epilogue) -> Op {
    Op::Linear(Linear {
        input,
        norm: norm.map(|weight| Norm { weight, eps: 1e-5 }),
        input_dtype: InputDtype::Q8,
        parts: parts.to_vec(),
        epilogue,
    })
}

/// One layer that uses everything: 10 tokens, 32 columns, 4 heads over 2 KV heads of 16; and a draft of one matrix over
/// the last hidden state and the token after it.
pub fn tiny() -> Plan {
    let mut b = PlanBuilder::new("tiny", 10, 64, KV);
    let rope = b.rope(RopeDecl {
        inv_freq: vec![1.0, 0.1, 0.01, 0.001],
        attention_factor: 1.0,
        dynamic: Some(DynamicNtk {
            theta: 1e4,
            factor: 2.0,
            trained_length: 32,
        }),
    });
    let table = b.matrix("embed", 10, 32);
    let norm = b.vector("norm", 32);
    let head_norm = b.vector("head_norm", 16);
    let bias = b.vector("q.bias", 64);
    let mut part = |name: &str, n, k| Part {
        weight: b.matrix(name, n, k),
        bias: None,
    };
    let q_proj = Part {
        bias: Some(bias),
        ..part("q", 64, 32)
    };
    let (k, v, o) = (part("k", 32, 32), part("v", 32, 32), part("o", 32, 64));
    let (gate, up) = (part("gate", 96, 32), part("up", 96, 32));
    let down = part("down", 32, 96);
    let head = Part {
        weight: table,
        bias: None,
    };
    let mut buffer = |name: &str, rows, columns| b.buffer(name, Dtype::F32, rows, columns);
    let residual = buffer("residual", Dim::Rows, 32);
    let q = buffer("queries", Dim::Rows, 64);
    let attention = buffer("attention", Dim::Rows, 64);
    let residual_out = buffer("residual.output", Dim::OutputRows, 32);
    let attention_out = buffer("attention.output", Dim::OutputRows, 64);
    let gated = buffer("gated", Dim::OutputRows, 96);
    let logits = buffer("logits", Dim::OutputRows, 10);
    let head_norm = Some(Norm {
        weight: head_norm,
        eps: 1e-6,
    });
    let qkv = Epilogue::Qkv(QkvEpilogue {
        q,
        layer: 0,
        rope,
        q_norm: head_norm,
        k_norm: head_norm,
    });
    let add = Epilogue::Residual {
        residual: residual_out,
        activation: None,
    };
    let gate_up = Epilogue::Gated {
        activation: Activation::Silu,
        output: gated,
    };
    let ops = vec![
        Op::Embed {
            table,
            output: residual,
        },
        linear(residual, Some(norm), &[q_proj, k, v], qkv),
        Op::Attention {
            q,
            output: attention,
            layer: 0,
            scale: 0.25,
            window: Some(8),
        },
        Op::Gather {
            input: residual,
            output: residual_out,
        },
        Op::Gather {
            input: attention,
            output: attention_out,
        },
        linear(attention_out, None, &[o], add.clone()),
        linear(residual_out, Some(norm), &[gate, up], gate_up),
        linear(gated, None, &[down], add),
        linear(
            residual_out,
            Some(norm),
            &[head],
            Epilogue::Store { output: logits },
        ),
    ];
    for (kind, max_rows) in [(SegmentKind::Prefill, 128), (SegmentKind::Target, 8)] {
        b.segment(Segment {
            kind,
            max_rows,
            inputs: Vec::new(),
            outputs: vec![logits, residual_out],
            ops: ops.clone(),
        });
    }
    draft(&mut b, table, logits, residual_out);
    b.finish().unwrap()
}

/// `embedding + silu(W [norm(embedding); hidden])`, then the target's head.
fn draft(b: &mut PlanBuilder, table: WeightId, logits: BufferId, hidden: BufferId) {
    let norm = b.vector("draft.norm", 32);
    let part = |weight| Part { weight, bias: None };
    let fc = part(b.matrix("draft.fc", 32, 64));
    let embedding = b.buffer("draft.embedding", Dtype::F32, Dim::Rows, 32);
    let embedding_out = b.buffer("draft.embedding.output", Dtype::F32, Dim::OutputRows, 32);
    let pair = b.buffer("draft.pair", Dtype::F32, Dim::OutputRows, 64);
    let columns = |buffer, start| Columns {
        buffer,
        start,
        count: 32,
    };
    let ops = vec![
        Op::Embed {
            table,
            output: embedding,
        },
        Op::Gather {
            input: embedding,
            output: embedding_out,
        },
        Op::Copy {
            input: columns(embedding_out, 0),
            norm: Some(Norm {
                weight: norm,
                eps: 1e-5,
            }),
            output: columns(pair, 0),
        },
        Op::Copy {
            input: columns(hidden, 0),
            norm: None,
            output: columns(pair, 32),
        },
        linear(
            pair,
            None,
            &[fc],
            Epilogue::Residual {
                residual: embedding_out,
                activation: Some(Activation::Silu),
            },
        ),
        linear(
            embedding_out,
            None,
            &[part(table)],
            Epilogue::Store { output: logits },
        ),
    ];
    b.draft(DraftDecl {
        kind: "pair".to_owned(),
        kv: KvDecl { layers: 0, ..KV },
        vocab_size: 10,
    });
    b.segment(Segment {
        kind: SegmentKind::Draft,
        max_rows: 8,
        inputs: vec![hidden],
        outputs: vec![logits],
        ops,
    });
}

/// The draft segment's op.
pub fn draft_op(plan: &mut Plan, index: usize) -> &mut Op {
    &mut plan.segments[2].ops[index]
}

/// The target segment's op.
pub fn op(plan: &mut Plan, index: usize) -> &mut Op {
    &mut plan.segments[1].ops[index]
}
