//! Plans of random ids and sizes.

use crate::tiny::{op, tiny};
use proptest::prelude::*;
use stheno_codegen::plan::{
    Activation, BufferDecl, BufferId, Columns, Dim, Dtype, Epilogue, InputDtype, KvDecl, Linear,
    Norm, Op, Part, Plan, QkvEpilogue, RopeDecl, RopeId, Segment, SegmentKind, WeightDecl,
    WeightId, WeightShape,
};

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
            residual: BufferId(id),
            activation: None,
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
        (columns(), norm(), columns()).prop_map(|(input, norm, output)| Op::Copy {
            input,
            norm,
            output,
        }),
    ]
}

fn columns() -> impl Strategy<Value = Columns> {
    let start = prop_oneof![4 => Just(0u32), 1 => any::<u32>()];
    (id(), start, size()).prop_map(|(buffer, start, count)| Columns {
        buffer: BufferId(buffer),
        start,
        count,
    })
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
        proptest::collection::vec(id(), 0..3),
        proptest::collection::vec(any_op(), 0..6),
    )
        .prop_map(|(sizes, weights, buffers, ropes, inputs, ops)| {
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
                draft: None,
                looks_up: vocab_size % 2 == 0,
                segments: vec![Segment {
                    kind: SegmentKind::Target,
                    max_rows: 4,
                    inputs: inputs.into_iter().map(BufferId).collect(),
                    outputs: Vec::new(),
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
