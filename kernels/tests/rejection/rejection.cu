// Draws out of a draft's logits, and decisions on guesses, that a test gives.
#include "rejection.cuh"

struct Case {
    u64 control;
    u64 workspace;
    u64 target_ids;
    float logit_scale;
    u32 unused;
    ChoosePhase phase;
};

DEVICE Program begin(const Case& own, Shared& shared) {
    Program program = {};
    program.control = own.control;
    program.workspace = own.workspace;
    program.target_ids = own.target_ids;
    program.logit_scale = own.logit_scale;
    const u32* const call = (const u32*)&control_of(program).call;
    for (u32 i = threadIdx.x; i < sizeof(Call) / 4; i += THREADS) ((u32*)&shared.call)[i] = call[i];
    if (threadIdx.x == 0) shared.phase.choose = own.phase;
    // The call and the phase, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    return program;
}

// A block draws after the first row of its case.
KERNEL __launch_bounds__(THREADS) draw_cases(const Case* cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Program program = begin(cases[blockIdx.x], shared);
    draw_guesses(program, shared, 0);
}

// A block decides on the guesses after the first row of its case.
KERNEL __launch_bounds__(THREADS) verify_cases(const Case* cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Program program = begin(cases[blockIdx.x], shared);
    verify_guesses(program, shared, 0);
}
