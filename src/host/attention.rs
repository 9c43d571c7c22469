//! Attention of rows over committed pages and over their ancestors in the call.

use super::context::Context;
use super::kernels::attend::{accumulate, scores, softmax};
use super::kernels::on_isa;
use super::kernels::widen::Element;
use super::team::Member;
use stheno_codegen::plan::{BufferId, KV_PAGE};

/// Query heads that share loads of K and V at most.
const MAX_GROUP: usize = 4;

/// The fields of `Op::Attention`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub q: BufferId,
    pub output: BufferId,
    pub layer: u32,
    pub scale: f32,
    pub window: Option<u32>,
}

/// Floats of work space for one member: scores by position, and scores of the call's rows, for each of a group of heads.
pub(super) fn work_space(positions: usize, rows: usize) -> usize {
    MAX_GROUP * per_head(positions, rows)
}

fn per_head(positions: usize, rows: usize) -> usize {
    positions.next_multiple_of(KV_PAGE) + rows.next_multiple_of(16)
}

impl Attention {
    /// Runs the op as one phase.
    pub fn run<E: Element>(&self, context: &Context<'_, E>, member: &Member<'_>) {
        let layout = context.kv_layout;
        let group = context.columns(self.q) / layout.head_dim / layout.heads;
        let rows = context.batch.rows.len();
        // Heads of a group share loads of K and V, unless there are too few units for the team then.
        let together = if rows * layout.heads < 8 {
            1
        } else {
            group.min(MAX_GROUP)
        };
        let parts = group.div_ceil(together);
        member.phase(rows * layout.heads * parts, |unit| {
            let (row, head, part) = (
                unit / (layout.heads * parts),
                unit / parts % layout.heads,
                unit % parts,
            );
            let first = head * group + part * together;
            match together.min(group - part * together) {
                1 => self.heads::<E, 1>(context, member, row, head, first),
                2 => self.heads::<E, 2>(context, member, row, head, first),
                3 => self.heads::<E, 3>(context, member, row, head, first),
                _ => self.heads::<E, 4>(context, member, row, head, first),
            }
        });
    }

    /// Query heads `first..first + G` of a row, all of KV head `head`.
    fn heads<E: Element, const G: usize>(
        &self,
        context: &Context<'_, E>,
        member: &Member<'_>,
        row: usize,
        head: usize,
        first: usize,
    ) {
        let isa = context.isa;
        let layout = context.kv_layout;
        let head_dim = layout.head_dim;
        let path = &context.batch.paths[row];
        let sequence = context.batch.sequence(row);
        let committed = sequence.len();
        let end = context.batch.rows[row].position as usize + 1;
        let begin = self.window.map_or(0, |w| end.saturating_sub(w as usize));
        let pages = begin / KV_PAGE..committed.div_ceil(KV_PAGE);
        // SAFETY: q and the K and V of this layer are complete; this unit owns these heads of the output; each
        // member has its own part of the work space.
        let (q, fresh_k, space, out) = unsafe {
            (
                context.read(self.q, row, first * head_dim, G * head_dim),
                context
                    .kv
                    .read(layout.k(self.layer, head), head_dim * layout.stride),
                context.scores.write(
                    member.index * context.scores_per_member,
                    context.scores_per_member,
                ),
                context.write(self.output, row, first * head_dim, G * head_dim),
            )
        };
        let q: [&[f32]; G] = std::array::from_fn(|g| &q[g * head_dim..][..head_dim]);
        let mut spaces = space.chunks_mut(context.scores_per_member / MAX_GROUP);
        let mut spaces: [&mut [f32]; G] =
            std::array::from_fn(|_| spaces.next().unwrap_or_default());
        let by_position = context.scores_per_member / MAX_GROUP - layout.stride;

        for page in pages.clone() {
            let start = page * KV_PAGE;
            let count = KV_PAGE.min(committed - start);
            let k = sequence
                .page(page)
                .k::<E>(sequence.decl(), self.layer, head);
            let to = spaces
                .each_mut()
                .map(|space| &mut space[start..start + KV_PAGE]);
            on_isa!(isa, scores(isa, q, k, KV_PAGE, count, self.scale, to));
        }
        // All rows up to this one are scored at once, then ancestors are put where their positions are.
        let to = spaces.each_mut().map(|space| &mut space[by_position..]);
        let (stride, count) = (layout.stride, context.batch.first + row + 1);
        on_isa!(isa, scores(isa, q, fresh_k, stride, count, self.scale, to));
        for space in &mut spaces {
            let (by_position, by_row) = space.split_at_mut(by_position);
            for (to, &row) in by_position[committed..end].iter_mut().zip(path) {
                *to = by_row[row as usize];
            }
        }

        let factors = spaces
            .each_mut()
            .map(|space| on_isa!(isa, softmax(&mut space[begin..end], begin)));
        out.fill(0.0);
        let mut chunks = out.chunks_mut(head_dim);
        let mut outs: [&mut [f32]; G] = std::array::from_fn(|_| chunks.next().unwrap_or_default());
        for page in pages {
            let from = begin.max(page * KV_PAGE);
            let to = committed.min((page + 1) * KV_PAGE);
            if from >= to {
                continue;
            }
            let weights = spaces.each_ref().map(|space| &space[from..to]);
            let v = sequence
                .page(page)
                .v::<E>(sequence.decl(), self.layer, head);
            let v = &v[(from - page * KV_PAGE) * head_dim..];
            let outs = outs.each_mut().map(|out| &mut **out);
            on_isa!(
                isa,
                accumulate(isa, weights, |p| &v[p * head_dim..][..head_dim], outs)
            );
        }
        let from = begin.max(committed);
        let weights = spaces.each_ref().map(|space| &space[from..end]);
        let path = &path[from - committed..];
        // SAFETY: V of this layer is complete.
        let v = |p: usize| unsafe {
            context
                .kv
                .read(layout.v(self.layer, head, path[p] as usize), head_dim)
        };
        let each = outs.each_mut().map(|out| &mut **out);
        on_isa!(isa, accumulate(isa, weights, v, each));
        for (out, factor) in outs.iter_mut().zip(factors) {
            out.iter_mut().for_each(|x| *x *= factor);
            context.round(self.output, out);
        }
    }
}
