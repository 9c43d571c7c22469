// Trees out of lists that a test gives.
#include "static_tree.cuh"

struct Case {
    u64 control;
    u64 lists;  // TopLogprob [level][node of the frontier TOP_LIMIT][TOP_LIMIT]; of a static tree [head][VERIFY_ROWS][TOP_LIMIT]
    u32 levels;
    u32 nodes;
};

// A block grows the tree of one case, or fills it if it is static.
KERNEL __launch_bounds__(THREADS) grow_cases(const Case* cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Case own = cases[blockIdx.x];
    Program program = {};
    program.control = own.control;
    Control& control = control_of(program);
    if (threadIdx.x == 0) begin_growth(control.growth);
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (control.static_tree.nodes > 0) {
        name_nodes(program, shared, own.lists, own.levels);
    } else {
        for (u32 level = 0; level < own.levels; level++)
            name_level(program, shared, own.lists + (u64)level * CANDIDATES * sizeof(TopLogprob), false);
    }
    finish_growth(program, own.nodes);
    if (threadIdx.x == 0) control.tree.levels = levels_of(control.tree);
}
