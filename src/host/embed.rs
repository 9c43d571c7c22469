use super::context::Context;
use super::executor::Weight;
use super::team::Member;
use stheno_codegen::plan::{BufferId, WeightId};

/// `output[r, :] = table[token(r), :]`.
pub(super) fn embed<E: Send + Sync>(
    context: &Context<'_, E>,
    member: &Member<'_>,
    table: WeightId,
    output: BufferId,
) {
    member.phase(context.batch.rows.len(), |row| {
        // SAFETY: unit `row` owns row `row` of the output.
        let out = unsafe { context.write(output, row, 0, context.columns(output)) };
        if let Weight::Matrix(table) = &context.weights[table.index()] {
            table.dequantize_row(context.batch.rows[row].token as usize, out);
        }
        context.round(output, out);
    });
}
