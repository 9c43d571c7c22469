// Chains that follow texts which a test gives.
#include "ngram.cuh"

struct Case {
    u64 control;
    u64 history;
    u64 followers;
    u32 known, limit;
};

// A block guesses what follows one text.
KERNEL __launch_bounds__(THREADS) guess_cases(const Case* cases) {
    const Case own = cases[blockIdx.x];
    Program program = {};
    program.control = own.control;
    program.history = own.history;
    program.followers = own.followers;
    Tree& tree = control_of(program).tree;
    const u32 guesses = guess_tokens(program, tree, own.known, own.limit);
    if (threadIdx.x == 0) tree.nodes = 1 + guesses;
}
