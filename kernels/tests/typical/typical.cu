// Steps judged by logits that a test gives.
#include "typical.cuh"

struct Case {
    u64 control;
    u64 workspace;
    u64 goal;  // u32: the last row of the longest accepted path
    ChoosePhase phase;
};

// A block judges all rows of one case, whose call is that of its control block.
KERNEL __launch_bounds__(THREADS) judge_cases(const Case* cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Case& own = cases[blockIdx.x];
    Program program = {};
    program.control = own.control;
    program.workspace = own.workspace;
    const u32* const call = (const u32*)&control_of(program).call;
    for (u32 i = threadIdx.x; i < sizeof(Call) / 4; i += THREADS) ((u32*)&shared.call)[i] = call[i];
    if (threadIdx.x == 0) shared.phase.choose = own.phase;
    // The call and the phase, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    for (u32 row = 0; row < shared.call.output_rows; row++) judge(program, shared, row);
    // What was judged, before it is read.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const u32 goal = longest_accepted(program, shared.call);
    if (threadIdx.x == 0) store_word(own.goal, goal);
}
