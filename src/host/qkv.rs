use super::context::Context;
use super::kernels::on_isa;
use super::kernels::row::{rms_norm_in_place, rotate};
use super::kernels::widen::Element;
use super::team::Member;
use stheno_codegen::plan::{Norm, Part, QkvEpilogue, WeightShape};

/// Turns `Context::products` into rotated queries and K and V of the call's rows: one phase, a head of a row the unit.
pub(super) fn finish<E: Element>(
    context: &Context<'_, E>,
    member: &Member<'_>,
    op: &QkvEpilogue,
    parts: &[Part],
) {
    let layout = context.kv_layout;
    let (head_dim, kv_heads) = (layout.head_dim, layout.heads);
    let columns: usize = parts.iter().map(|part| width(context, *part)).sum();
    let heads = columns / head_dim;
    let q_heads = heads - 2 * kv_heads;
    let table = &context.ropes[op.rope.index()];
    let (rows, first) = (context.batch.rows.len(), context.batch.first);
    member.phase(rows * heads, |unit| {
        let (row, head) = (unit / heads, unit % heads);
        let at = row * columns + head * head_dim;
        // SAFETY: the products are complete, and this unit owns this head of this row.
        let x = unsafe { context.products.write(at, head_dim) };
        let norm_and_rotate = |x: &mut [f32], norm: Option<Norm>| {
            let (cos, sin) = table.row(row);
            on_isa!(context.isa, {
                if let Some(norm) = norm {
                    rms_norm_in_place(x, context.vector(norm.weight), norm.eps);
                }
                rotate(x, cos, sin);
            });
        };
        if head < q_heads {
            norm_and_rotate(x, op.q_norm);
            // SAFETY: this unit owns this head of this row of q.
            let q = unsafe { context.write(op.q, row, head * head_dim, head_dim) };
            q.copy_from_slice(x);
            context.round(op.q, q);
        } else if head < q_heads + kv_heads {
            norm_and_rotate(x, op.k_norm);
            let start = layout.k(op.layer, head - q_heads) + first + row;
            for (d, x) in x.iter().enumerate() {
                // SAFETY: this row's column of this head of K belongs to this unit.
                let k = unsafe { context.kv.write(start + d * layout.stride, 1) };
                k[0] = E::narrow(*x);
            }
        } else {
            let start = layout.v(op.layer, head - q_heads - kv_heads, first + row);
            // SAFETY: this head of this row of V belongs to this unit.
            let v = unsafe { context.kv.write(start, head_dim) };
            v.iter_mut().zip(x).for_each(|(v, x)| *v = E::narrow(*x));
        }
    });
}

fn width<E>(context: &Context<'_, E>, part: Part) -> usize {
    match context.plan.weight(part.weight).shape {
        WeightShape::Matrix { n, .. } | WeightShape::Vector { n } => n as usize,
    }
}
