use super::context::Context;
use super::kernels::on_isa;
use super::kernels::row::rms_norm;
use super::team::Member;
use stheno_codegen::plan::{Columns, Dim, Norm};

/// `output` receives `input`, normalised if so asked.
pub(super) fn copy<E: Send + Sync>(
    context: &Context<'_, E>,
    member: &Member<'_>,
    input: Columns,
    norm: Option<Norm>,
    output: Columns,
) {
    let rows = match context.plan.buffer(input.buffer).rows {
        Dim::Rows => context.batch.rows.len(),
        Dim::OutputRows => context.batch.outputs.len(),
    };
    member.phase(rows, |row| {
        let count = input.count as usize;
        let (from, to) = (input.start as usize, output.start as usize);
        // SAFETY: nobody writes the input in this phase; unit `row` owns row `row` of the output.
        let (from, to) = unsafe {
            (
                context.read(input.buffer, row, from, count),
                context.write(output.buffer, row, to, count),
            )
        };
        match norm {
            Some(norm) => {
                let weight = context.vector(norm.weight);
                on_isa!(context.isa, rms_norm(from, weight, norm.eps, to));
            }
            None => to.copy_from_slice(from),
        }
        context.round(output.buffer, to);
    });
}
