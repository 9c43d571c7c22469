//! Plans broken on purpose: what the validator says to each.

use crate::tiny::{draft_op, op, tiny};
use stheno_codegen::plan::{
    BufferDecl, BufferId, Columns, Dim, Dtype, DynamicNtk, Epilogue, Linear, Op, Part, Plan,
    QkvEpilogue, RopeDecl, RopeId, SegmentKind, WeightDecl, WeightId, WeightShape,
};

fn linear_at(plan: &mut Plan, index: usize) -> &mut Linear {
    match op(plan, index) {
        Op::Linear(linear) => linear,
        other => panic!("{other:?}"),
    }
}

fn qkv(plan: &mut Plan) -> &mut QkvEpilogue {
    match &mut linear_at(plan, 1).epilogue {
        Epilogue::Qkv(qkv) => qkv,
        other => panic!("{other:?}"),
    }
}

fn buffer(plan: &Plan, name: &str) -> BufferId {
    plan.buffer_named(name).unwrap()
}

fn columns(plan: &mut Plan, name: &str, columns: u32) {
    let index = buffer(plan, name).index();
    plan.buffers[index].columns = columns;
}

fn weight(plan: &Plan, name: &str) -> WeightId {
    let index = plan.weights.iter().position(|w| w.name == name).unwrap();
    WeightId(index as u32)
}

fn reshape(plan: &mut Plan, name: &str, shape: WeightShape) {
    let index = weight(plan, name).index();
    plan.weights[index].shape = shape;
}

/// Asserts that the changed plan is refused with that variant, and that the message has all of `parts` in it.
fn refused(variant: &str, parts: &[&str], change: impl Fn(&mut Plan)) {
    let mut plan = tiny();
    change(&mut plan);
    let error = plan.validate().unwrap_err();
    let message = error.to_string();
    assert!(
        format!("{error:?}").starts_with(variant),
        "{variant}: {error:?}"
    );
    for part in parts {
        assert!(message.contains(part), "no {part} in: {message}");
    }
}

#[test]
fn names_are_unique() {
    refused("DuplicateName", &["`q`"], |p| {
        p.weights[0].name = "q".to_owned();
    });
    refused("DuplicateName", &["`gated`"], |p| {
        p.buffers[0].name = "gated".to_owned();
    });
    refused("DuplicateName", &["`residual`"], |p| {
        p.weights[1].name = "residual".to_owned();
    });
}

#[test]
fn declarations_are_possible() {
    let refused = |parts: &[&str], change: &dyn Fn(&mut Plan)| {
        refused("Declaration", parts, change);
    };
    refused(&["`k`", "[0, 32]"], &|p| {
        reshape(p, "k", WeightShape::Matrix { n: 0, k: 32 });
    });
    refused(&["`k`", "[32, 0]"], &|p| {
        reshape(p, "k", WeightShape::Matrix { n: 32, k: 0 });
    });
    refused(&["`norm`", "[0]"], &|p| {
        reshape(p, "norm", WeightShape::Vector { n: 0 });
    });
    refused(&["`gated`", "no columns"], &|p| columns(p, "gated", 0));
    refused(&["`kv`", "no heads"], &|p| p.kv.num_key_value_heads = 0);
    refused(&["`kv`", "head_dim"], &|p| p.kv.head_dim = 0);
    refused(&["`kv`", "2^32"], &|p| {
        p.kv.num_key_value_heads = 1 << 16;
        p.kv.head_dim = 1 << 16;
    });
    refused(&["`plan`", "token ids"], &|p| p.vocab_size = 0);
    refused(&["`plan`", "positions"], &|p| p.context_length = 0);
}

#[test]
fn rotations_are_possible() {
    let refused = |parts: &[&str], change: &dyn Fn(&mut RopeDecl)| {
        refused("Declaration", parts, |p| change(&mut p.ropes[0]));
    };
    refused(&["`rope 0`", "18 of 16"], &|r| r.inv_freq = vec![0.5; 9]);
    refused(&["`rope 0`", "frequency NaN"], &|r| {
        r.inv_freq[2] = f32::NAN
    });
    refused(&["`rope 0`", "factor inf"], &|r| {
        r.attention_factor = f32::INFINITY;
    });
    let dynamic = |theta, factor, trained_length| {
        refused(&["`rope 0`", "it scales"], &|r: &mut RopeDecl| {
            r.dynamic = Some(DynamicNtk {
                theta,
                factor,
                trained_length,
            });
        });
    };
    dynamic(0.0, 2.0, 32);
    dynamic(f64::NAN, 2.0, 32);
    dynamic(1e4, -1.0, 32);
    dynamic(1e4, f64::INFINITY, 32);
    dynamic(1e4, 2.0, 0);
}

#[test]
fn segments_are_possible() {
    refused("Segment", &["segment prefill", "twice"], |p| {
        p.segments[1].kind = SegmentKind::Prefill;
    });
    refused("Segment", &["segment target", "max_rows"], |p| {
        p.segments[1].max_rows = 0;
    });
    refused("Segment", &["segment draft", "declares none"], |p| {
        p.draft = None;
    });
    refused("Segment", &["segment target", "input", "77"], |p| {
        p.segments[1].inputs.push(BufferId(77));
    });
    refused("Segment", &["segment target", "output", "77"], |p| {
        p.segments[1].outputs.push(BufferId(77));
    });
    refused("Segment", &["segment target", "`draft.pair`"], |p| {
        let pair = buffer(p, "draft.pair");
        p.segments[1].outputs.push(pair);
    });
}

#[test]
fn copies_fit() {
    fn columns_of(plan: &mut Plan, index: usize) -> (&mut Columns, &mut Columns) {
        match draft_op(plan, index) {
            Op::Copy { input, output, .. } => (input, output),
            other => panic!("{other:?}"),
        }
    }
    let op2 = ["segment draft", "op 2 (copy)"];
    let refused = |variant: &str, part: &str, change: &dyn Fn(&mut Plan)| {
        refused(variant, &[&op2[..], &[part]].concat(), change);
    };
    refused(
        "Op",
        "40 columns from 0 of `draft.embedding.output`",
        &|p| {
            columns_of(p, 2).0.count = 40;
        },
    );
    refused("Op", "32 columns from 4294967295", &|p| {
        columns_of(p, 2).1.start = u32::MAX;
    });
    refused("Op", "it copies [output rows, 8]", &|p| {
        columns_of(p, 2).0.count = 8;
    });
    refused("Op", "it copies [rows, 32] of `draft.embedding`", &|p| {
        columns_of(p, 2).0.buffer = buffer(p, "draft.embedding");
    });
    refused("Op", "reads and writes `draft.pair`", &|p| {
        columns_of(p, 2).0.buffer = buffer(p, "draft.pair");
    });
    refused("ReadBeforeWrite", "`residual.output`", &|p| {
        p.segments[2].inputs.clear();
        columns_of(p, 2).0.buffer = buffer(p, "residual.output");
    });
}

#[test]
fn every_column_is_written_before_it_is_read() {
    let parts = ["segment draft", "op 3 (linear)", "`draft.pair`"];
    refused("ReadBeforeWrite", &parts, |p| {
        p.segments[2].ops.remove(3);
    });
}

#[test]
fn ops_name_what_is_declared() {
    let refused = |parts: &[&str], change: &dyn Fn(&mut Plan)| {
        refused(
            "Undeclared",
            &[&["segment target"][..], parts].concat(),
            change,
        );
    };
    let far = BufferId(77);
    refused(&["op 0 (embed)", "weight 77"], &|p| {
        let output = buffer(p, "residual");
        *op(p, 0) = Op::Embed {
            table: WeightId(77),
            output,
        };
    });
    refused(&["op 1 (linear)", "buffer 77"], &|p| {
        linear_at(p, 1).input = far;
    });
    refused(&["op 1 (linear)", "buffer 77"], &|p| qkv(p).q = far);
    refused(&["op 1 (linear)", "rope 3"], &|p| qkv(p).rope = RopeId(3));
    refused(&["op 1 (linear)", "KV layer 1"], &|p| qkv(p).layer = 1);
    refused(&["op 1 (linear)", "weight 78"], &|p| {
        qkv(p).k_norm.as_mut().unwrap().weight = WeightId(78);
    });
    refused(&["op 1 (linear)", "weight 79"], &|p| {
        linear_at(p, 1).parts[2].weight = WeightId(79);
    });
    refused(&["op 1 (linear)", "weight 79"], &|p| {
        linear_at(p, 1).parts[0].bias = Some(WeightId(79));
    });
    refused(&["op 2 (attention)", "KV layer 4294967295"], &|p| {
        if let Op::Attention { layer, .. } = op(p, 2) {
            *layer = u32::MAX;
        }
    });
    refused(&["op 2 (attention)", "buffer 77"], &|p| {
        if let Op::Attention { output, .. } = op(p, 2) {
            *output = far;
        }
    });
    refused(&["op 3 (gather)", "buffer 77"], &|p| {
        if let Op::Gather { input, .. } = op(p, 3) {
            *input = far;
        }
    });
    refused(&["op 5 (linear)", "buffer 77"], &|p| {
        linear_at(p, 5).epilogue = Epilogue::Residual {
            residual: far,
            activation: None,
        };
    });
}

#[test]
fn buffers_are_written_before_they_are_read() {
    let without = |index: usize, parts: &[&str]| {
        refused(
            "ReadBeforeWrite",
            &[&["segment target"][..], parts].concat(),
            |p| {
                p.segments[1].ops.remove(index);
            },
        );
    };
    without(0, &["op 0 (linear)", "`residual`"]);
    without(1, &["op 1 (attention)", "`queries`"]);
    without(2, &["op 3 (gather)", "`attention`"]);
    without(3, &["op 4 (linear)", "`residual.output`"]);
    without(4, &["op 4 (linear)", "`attention.output`"]);
    without(6, &["op 6 (linear)", "`gated`"]);
}

#[test]
fn a_segment_starts_without_buffers_and_kv() {
    refused("ReadBeforeWrite", &["segment target", "op 0"], |p| {
        p.segments[1].ops.drain(..1);
    });
    // What the prefill segment appended is none of the target segment's.
    let parts = ["segment target", "op 2 (attention)", "KV layer 0"];
    refused("Op", &parts, |p| {
        let output = buffer(p, "queries");
        let linear = linear_at(p, 1);
        linear.parts.truncate(1);
        linear.epilogue = Epilogue::Store { output };
    });
}

#[test]
fn shapes_fit() {
    let refused = |parts: &[&str], change: &dyn Fn(&mut Plan)| {
        refused("Shape", parts, change);
    };
    refused(&["op 0 (embed)", "`embed` is [10, 32]", "[11, 32]"], &|p| {
        p.vocab_size = 11;
    });
    refused(&["op 0 (embed)", "`norm` is [32]", "[10, 32]"], &|p| {
        let (table, output) = (weight(p, "norm"), buffer(p, "residual"));
        p.segments[0].ops[0] = Op::Embed { table, output };
    });
    refused(&["op 0 (embed)", "`logits`", "[rows, "], &|p| {
        let (table, output) = (weight(p, "embed"), buffer(p, "logits"));
        reshape(p, "embed", WeightShape::Matrix { n: 10, k: 10 });
        *op(p, 0) = Op::Embed { table, output };
        p.segments.remove(0);
    });
    refused(&["op 1 (linear)", "`norm` is [31]", "[32]"], &|p| {
        reshape(p, "norm", WeightShape::Vector { n: 31 });
    });
    refused(&["op 1 (linear)", "`q.bias` is [32]", "[64]"], &|p| {
        reshape(p, "q.bias", WeightShape::Vector { n: 32 });
    });
    refused(&["op 1 (linear)", "`v` is [32, 31]", "[32, 32]"], &|p| {
        reshape(p, "v", WeightShape::Matrix { n: 32, k: 31 });
    });
    refused(&["op 1 (linear)", "`v` is [32]", "[32, 32]"], &|p| {
        reshape(p, "v", WeightShape::Vector { n: 32 });
    });
    refused(&["op 1 (linear)", "`head_norm` is [16, 1]", "[16]"], &|p| {
        reshape(p, "head_norm", WeightShape::Matrix { n: 16, k: 1 });
    });
    refused(&["op 1 (linear)", "`queries`", "96", "64"], &|p| {
        columns(p, "queries", 96);
    });
    refused(&["op 2 (attention)", "`attention`", "32", "64"], &|p| {
        columns(p, "attention", 32);
    });
    refused(&["op 3 (gather)", "`residual.output`", "33"], &|p| {
        columns(p, "residual.output", 33);
    });
    refused(&["op 3 (gather)", "`residual` is [rows, 32]"], &|p| {
        let residual = buffer(p, "residual");
        *op(p, 3) = Op::Gather {
            input: residual,
            output: residual,
        };
    });
    refused(&["op 6 (linear)", "`gated`", "95", "96"], &|p| {
        columns(p, "gated", 95);
    });
    refused(&["op 8 (linear)", "`logits` is", "output rows"], &|p| {
        let index = buffer(p, "logits").index();
        p.buffers[index].rows = Dim::Rows;
    });
}

#[test]
fn ops_agree_with_themselves() {
    let refused = |parts: &[&str], change: &dyn Fn(&mut Plan)| {
        refused("Op", &[&["segment target"][..], parts].concat(), change);
    };
    refused(&["op 1 (linear)", "norm eps NaN"], &|p| {
        linear_at(p, 1).norm.as_mut().unwrap().eps = f32::NAN;
    });
    refused(&["op 1 (linear)", "norm eps -1"], &|p| {
        qkv(p).q_norm.as_mut().unwrap().eps = -1.0;
    });
    refused(&["op 1 (linear)", "`queries`", "three parts"], &|p| {
        linear_at(p, 1).parts.pop();
    });
    refused(&["op 1 (linear)", "`queries`", "64 and 32"], &|p| {
        linear_at(p, 1).parts[1] = Part {
            weight: weight(p, "q"),
            bias: None,
        };
    });
    refused(&["op 1 (linear)", "`queries` has 96", "multiple"], &|p| {
        linear_at(p, 1).parts[0] = Part {
            weight: weight(p, "gate"),
            bias: None,
        };
        p.kv.head_dim = 20;
        p.segments.remove(0);
    });
    refused(&["op 2 (linear)", "KV layer 0", "twice"], &|p| {
        let again = op(p, 1).clone();
        p.segments[1].ops.insert(2, again);
    });
    refused(&["op 2 (attention)", "scale"], &|p| {
        if let Op::Attention { scale, .. } = op(p, 2) {
            *scale = f32::INFINITY;
        }
    });
    refused(&["op 2 (attention)", "window"], &|p| {
        if let Op::Attention { window, .. } = op(p, 2) {
            *window = Some(0);
        }
    });
    refused(&["op 2 (attention)", "reads and writes `queries`"], &|p| {
        if let Op::Attention { q, output, .. } = op(p, 2) {
            *output = *q;
        }
    });
    refused(&["op 5 (linear)", "`residual.output`", "one part"], &|p| {
        linear_at(p, 5).parts.clear();
    });
    refused(&["op 6 (linear)", "`gated`", "gate and up"], &|p| {
        linear_at(p, 6).parts.pop();
    });
    refused(&["op 6 (linear)", "`gated`", "[96, 64]"], &|p| {
        linear_at(p, 6).parts[1] = Part {
            weight: weight(p, "q"),
            bias: None,
        };
    });
    refused(&["op 8 (linear)", "`logits`", "one part"], &|p| {
        let linear = linear_at(p, 8);
        linear.parts.push(linear.parts[0]);
    });
    refused(&["op 8 (linear)", "`residual.output`"], &|p| {
        let output = buffer(p, "residual.output");
        linear_at(p, 8).epilogue = Epilogue::Store { output };
    });
}

#[test]
fn kv_is_appended_for_rows_of_the_call() {
    refused("Op", &["op 9 (linear)", "row of the call"], |p| {
        let mut again = op(p, 1).clone();
        if let Op::Linear(linear) = &mut again {
            linear.input = buffer(p, "residual.output");
        }
        p.segments[1].ops.push(again);
    });
}

#[test]
fn eight_bit_inputs_have_whole_groups() {
    refused("Op", &["op 2 (linear)", "`odd` has 33", "of 32"], |p| {
        let (table, output) = (
            WeightId(p.weights.len() as u32),
            BufferId(p.buffers.len() as u32),
        );
        p.weights.push(WeightDecl {
            name: "odd_table".to_owned(),
            shape: WeightShape::Matrix { n: 10, k: 33 },
        });
        p.buffers.push(BufferDecl {
            name: "odd".to_owned(),
            dtype: Dtype::F32,
            rows: Dim::Rows,
            columns: 33,
        });
        p.segments[1].ops.insert(0, Op::Embed { table, output });
        let linear = linear_at(p, 2);
        (linear.input, linear.norm) = (output, None);
    });
}
