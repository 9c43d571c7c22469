// Trees grown from lists that a test gives.
#include "grow.cuh"

struct Case {
    u64 control;
    u64 lists;  // TopLogprob [level][node of the frontier TOP_LIMIT][TOP_LIMIT]
    u32 levels;
    u32 nodes;
};

// A block grows the tree of one case.
KERNEL __launch_bounds__(THREADS) grow_cases(const Case* cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Case own = cases[blockIdx.x];
    Program program = {};
    program.control = own.control;
    if (threadIdx.x == 0) begin_growth(control_of(program).growth);
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    for (u32 level = 0; level < own.levels; level++)
        name_level(program, shared, own.lists + (u64)level * CANDIDATES * sizeof(TopLogprob));
    finish_growth(program, own.nodes);
    if (threadIdx.x == 0) control_of(program).tree.levels = levels_of(control_of(program).tree);
}
