//! Plans: what the validator refuses and how it says so, serialization, and how a plan is printed.

use proptest::prelude::*;
use stheno_codegen::plan::{
    Activation, BufferDecl, BufferId, Dim, Dtype, DynamicNtk, Epilogue, InputDtype, KvDecl, Linear,
    Norm, Op, Part, Plan, PlanBuilder, PlanError, QkvEpilogue, RopeDecl, RopeId, Segment,
    SegmentKind, WeightDecl, WeightId, WeightShape,
};

const KV: KvDecl = KvDecl {
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

/// One layer that uses everything: 10 tokens, 32 columns, 4 heads over 2 KV heads of 16.
fn tiny() -> Plan {
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
    b.segment(SegmentKind::Prefill, 128, ops.clone());
    b.segment(SegmentKind::Target, 8, ops);
    b.finish().unwrap()
}

/// The target segment's op.
fn op(plan: &mut Plan, index: usize) -> &mut Op {
    &mut plan.segments[1].ops[index]
}

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
        linear_at(p, 5).epilogue = Epilogue::Residual { residual: far };
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

#[test]
fn a_plan_survives_json() {
    let plan = tiny();
    let text = serde_json::to_string(&plan).unwrap();
    let back: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(back, plan);
    assert_eq!(back.validate(), Ok(()));
    let mut plain = plan;
    plain.ropes[0].dynamic = None;
    let text = serde_json::to_string(&plain).unwrap();
    assert!(!text.contains("dynamic"), "{text}");
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plain);
}

#[test]
fn a_plan_prints() {
    insta::assert_snapshot!(tiny().to_string());
}

#[test]
fn equal_declarations_share_an_id() {
    let mut b = PlanBuilder::new("shared", 1, 1, KV);
    assert_eq!(b.matrix("w", 2, 3), b.matrix("w", 2, 3));
    let first = b.buffer("x", Dtype::F32, Dim::Rows, 4);
    assert_eq!(b.buffer("x", Dtype::F32, Dim::Rows, 4), first);
    let rope = RopeDecl {
        inv_freq: vec![1.0],
        attention_factor: 1.0,
        dynamic: None,
    };
    assert_eq!(b.rope(rope.clone()), b.rope(rope));
    assert_ne!(b.buffer("x", Dtype::BF16, Dim::Rows, 4), first);
    let error = b.finish().unwrap_err();
    assert_eq!(
        error,
        PlanError::DuplicateName {
            name: "x".to_owned()
        }
    );
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..6u32, 1 => any::<u32>()]
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![12 => Just(32u32), 2 => Just(16u32), 1 => any::<u32>()]
}

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![4 => Just(0.5f32), 1 => proptest::num::f32::ANY]
}

fn norm() -> impl Strategy<Value = Option<Norm>> {
    let norm = (id(), number()).prop_map(|(weight, eps)| Norm {
        weight: WeightId(weight),
        eps,
    });
    proptest::option::of(norm)
}

fn epilogue() -> impl Strategy<Value = Epilogue> {
    let qkv = (id(), id(), id(), norm(), norm());
    prop_oneof![
        id().prop_map(|id| Epilogue::Store {
            output: BufferId(id)
        }),
        id().prop_map(|id| Epilogue::Residual {
            residual: BufferId(id)
        }),
        id().prop_map(|id| Epilogue::Gated {
            activation: Activation::GeluTanh,
            output: BufferId(id),
        }),
        qkv.prop_map(
            |(q, layer, rope, q_norm, k_norm)| Epilogue::Qkv(QkvEpilogue {
                q: BufferId(q),
                layer,
                rope: RopeId(rope),
                q_norm,
                k_norm,
            })
        ),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let part = (id(), proptest::option::of(id())).prop_map(|(weight, bias)| Part {
        weight: WeightId(weight),
        bias: bias.map(WeightId),
    });
    let parts = proptest::collection::vec(part, 0..4);
    let dtype = prop_oneof![
        Just(InputDtype::F32),
        Just(InputDtype::BF16),
        Just(InputDtype::Q8)
    ];
    let attention = (id(), id(), id(), number(), proptest::option::of(id()));
    prop_oneof![
        (id(), id()).prop_map(|(table, output)| Op::Embed {
            table: WeightId(table),
            output: BufferId(output),
        }),
        (id(), norm(), dtype, parts, epilogue()).prop_map(
            |(input, norm, input_dtype, parts, epilogue)| Op::Linear(Linear {
                input: BufferId(input),
                norm,
                input_dtype,
                parts,
                epilogue,
            })
        ),
        attention.prop_map(|(q, output, layer, scale, window)| Op::Attention {
            q: BufferId(q),
            output: BufferId(output),
            layer,
            scale,
            window,
        }),
        (id(), id()).prop_map(|(input, output)| Op::Gather {
            input: BufferId(input),
            output: BufferId(output),
        }),
    ]
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let weight = (any::<bool>(), size(), size()).prop_map(|(matrix, n, k)| match matrix {
        true => WeightShape::Matrix { n, k },
        false => WeightShape::Vector { n },
    });
    let buffer = (proptest::bool::weighted(0.7), size());
    let rope = (proptest::collection::vec(number(), 0..9), number());
    let sizes = (size(), size(), 0..3u32, 1..3u32, size());
    (
        sizes,
        proptest::collection::vec(weight, 0..6),
        proptest::collection::vec(buffer, 0..6),
        proptest::collection::vec(rope, 0..3),
        proptest::collection::vec(any_op(), 0..6),
    )
        .prop_map(|(sizes, weights, buffers, ropes, ops)| {
            let (vocab_size, context_length, layers, num_key_value_heads, head_dim) = sizes;
            let weights = weights.into_iter().enumerate();
            let buffers = buffers.into_iter().enumerate();
            Plan {
                name: "random".to_owned(),
                vocab_size,
                context_length,
                kv: KvDecl {
                    layers,
                    num_key_value_heads,
                    head_dim,
                    dtype: Dtype::BF16,
                },
                weights: weights
                    .map(|(i, shape)| WeightDecl {
                        name: format!("w{i}"),
                        shape,
                    })
                    .collect(),
                buffers: buffers
                    .map(|(i, (all, columns))| BufferDecl {
                        name: format!("b{i}"),
                        dtype: Dtype::F32,
                        rows: if all { Dim::Rows } else { Dim::OutputRows },
                        columns,
                    })
                    .collect(),
                ropes: ropes
                    .into_iter()
                    .map(|(inv_freq, attention_factor)| RopeDecl {
                        inv_freq,
                        attention_factor,
                        dynamic: None,
                    })
                    .collect(),
                segments: vec![Segment {
                    kind: SegmentKind::Target,
                    max_rows: 4,
                    ops,
                }],
            }
        })
}

proptest! {
    /// Random ids and sizes are refused or accepted, and what is accepted can be printed.
    #[test]
    fn the_validator_never_panics(plan in any_plan()) {
        match plan.validate() {
            Ok(()) => prop_assert!(!plan.to_string().is_empty()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// The same one step away from a plan that runs: each op replaced by a random one.
    #[test]
    fn a_replaced_op_never_panics(index in 0..9usize, new in any_op()) {
        let mut plan = tiny();
        *op(&mut plan, index) = new;
        if plan.validate().is_ok() {
            prop_assert!(!plan.to_string().is_empty());
        }
    }
}
