use super::context::Context;
use super::team::Member;
use stheno_codegen::plan::BufferId;

/// `output` receives the rows of `input` whose output is wanted.
pub(super) fn gather<E: Send + Sync>(
    context: &Context<'_, E>,
    member: &Member<'_>,
    input: BufferId,
    output: BufferId,
) {
    let columns = context.columns(input);
    member.phase(context.batch.outputs.len(), |i| {
        // SAFETY: nobody writes the input in this phase; unit i owns row i of the output.
        let (from, to) = unsafe {
            (
                context.read(input, context.batch.outputs[i], 0, columns),
                context.write(output, i, 0, columns),
            )
        };
        to.copy_from_slice(from);
        context.round(output, to);
    });
}
