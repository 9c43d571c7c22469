// Trees of fixed shape, as stheno's speculation::Choices: every node takes the candidate of one rank from the head of its level. The
// most probable nodes of them become the tree of a round, as of trees that grow.
#pragma once
#include "grow.cuh"

// Names the tree's nodes down to `levels`, instead of name_level: `lists` is TopLogprob [head][VERIFY_ROWS][TOP_LIMIT], most likely
// first. A node whose head has no such candidate is left out, and so is what is below it. By all consumers.
//
// Shared memory meanwhile: keys u64 [ROW_LIMIT] in the region of scratch, 0 for nodes that are left out.
DEVICE_CALL void name_nodes(const Program& program, Shared& shared, u64 lists, u32 levels) {
    Control& control = control_of(program);
    const StaticTree& fixed = control.static_tree;
    Growth& growth = control.growth;
    u64* const keys = (u64*)shared_region(SCRATCH_AT);
    const u32 node = threadIdx.x, nodes = smaller(fixed.nodes, ROW_LIMIT);
    const u32 deepest = smaller(fixed.levels, levels);
    u32 depth = 0, parent = 0;
    TopLogprob named = {NONE, MINUS_INFINITY};
    if (node > 0 && node < nodes && fixed.depths[node] <= deepest) {
        depth = fixed.depths[node];
        parent = fixed.parents[node];
        const u64 entry = (u64)((depth - 1) * VERIFY_ROWS * TOP_LIMIT + fixed.ranks[node]) * sizeof(TopLogprob);
        const u64 words = load_l2_long(lists + entry);
        named = {(u32)words, float_of((u32)(words >> 32))};
    }
    // Ids that only the draft has, in its padding, are no tokens.
    const bool is_token = named.logprob > MINUS_INFINITY && named.token < VOCAB_SIZE;
    if (node < ROW_LIMIT) keys[node] = 0;
    if (node == 0) shared.words[3] = 0;
    // The zeros, and all reads of the region before them.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
#pragma unroll 1
    for (u32 level = 1; level <= deepest; level++) {
        if (depth == level && is_token && (parent == 0 || keys[parent] != 0)) {
            const float above = parent == 0 ? 0.0f : unordered((u32)(keys[parent] >> 32));
            // As scores of trees that grow.
            const float score = larger(__fadd_rn(above, smaller(named.logprob, 0.0f)), -LARGEST_FLOAT);
            keys[node] = (u64)ordered(score) << 32 | (u32)~node;
            atomicAdd(&shared.words[3], 1u);
        }
        // The level, before the next one reads it.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    }
    if (node > 0 && node < nodes && keys[node] != 0) {
        u32 rank = 0;
#pragma unroll 1
        for (u32 other = 1; other < nodes; other++) rank += keys[other] > keys[node];
        growth.kept[rank] = {keys[node], named.token, parent == 0 ? NONE : parent};
    }
    if (node == 0) {
        growth.levels = 1;
        growth.records = nodes;
        growth.kept_count = shared.words[3];
    }
    // What was named, to all; and all reads of shared memory.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}
