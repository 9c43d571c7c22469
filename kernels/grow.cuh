// Grows the tree of a round out of what a draft names, as stheno's speculation::dynamic does: level by level the draft sees the most
// probable nodes of the last level, and the most probable of all that it has named become the tree (EAGLE-2, Li et al., 2024).
//
// No score is above its parent's, and of equal ones the one that was named first is better, as a parent always was: so the best of
// all hold their ancestors, and what is not among the best ROW_LIMIT once never will be. Only those are kept.
//
// Shared memory meanwhile: keys u64 [CANDIDATES] in the region of scratch, then what was kept and the last frontier in that of
// partials.
#pragma once
#include "control.cuh"
#include "order.cuh"
#include "sync.cuh"

#define CANDIDATES (TOP_LIMIT * TOP_LIMIT)
static_assert(SCRATCH_BYTES >= CANDIDATES * 8 && PARTIAL_BYTES >= (ROW_LIMIT + TOP_LIMIT) * sizeof(Candidate), "room to grow");

DEVICE u32 record_of(const Candidate& candidate) { return ~(u32)candidate.key; }
DEVICE float score_of(const Candidate& candidate) { return unordered((u32)(candidate.key >> 32)); }

// Begins the tree of a round at the root. By one thread.
DEVICE void begin_growth(Growth& growth) {
    growth.levels = growth.records = growth.kept_count = growth.width = growth.rows = growth.last_row = 0;
}

// Names the next level: `lists` is TopLogprob [node of the frontier, or the root][TOP_LIMIT], most likely first; or one list for all
// nodes, if `is_shared`. By all consumers.
DEVICE_CALL void name_level(const Program& program, Shared& shared, u64 lists, bool is_shared) {
    Growth& growth = control_of(program).growth;
    const u32 topk = control_of(program).generation.topk;
    const bool is_first = growth.levels == 0;
    const u32 width = growth.width, nodes = is_first ? 1 : width, count = nodes * topk;
    const u32 records = growth.records, kept_count = growth.kept_count, rows = growth.rows;
    const u32 next_row = rows + width;
    u64* const keys = (u64*)shared_region(SCRATCH_AT);
    Candidate* const kept = (Candidate*)shared_region(PARTIALS_AT);
    Candidate* const frontier = kept + ROW_LIMIT;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < kept_count; i += CONSUMER_THREADS) kept[i] = growth.kept[i];
#pragma unroll 1
    for (u32 i = threadIdx.x; i < width; i += CONSUMER_THREADS) frontier[i] = growth.frontier[i];
    if (threadIdx.x == 0) shared.words[3] = 0;
    // What was there, and all reads of it from memory, before it is replaced.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const auto listed = [&](u32 i) {
        const u32 first = is_shared ? 0 : i / topk * TOP_LIMIT;
        const u64 words = load_l2_long(lists + (u64)(first + i % topk) * sizeof(TopLogprob));
        return TopLogprob{(u32)words, float_of((u32)(words >> 32))};
    };
    u32 live = 0;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < count; i += CONSUMER_THREADS) {
        const TopLogprob named = listed(i);
        const float above = is_first ? 0.0f : score_of(frontier[i / topk]);
        // Rounding above 0 counts as 0; sums stay finite.
        const float score = larger(__fadd_rn(above, smaller(named.logprob, 0.0f)), -LARGEST_FLOAT);
        // Ids that only the draft has, in its padding, are no tokens.
        const bool is_token = named.logprob > MINUS_INFINITY && named.token < VOCAB_SIZE;
        keys[i] = is_token ? (u64)ordered(score) << 32 | (u32) ~(records + i) : 0;
        live += is_token;
    }
    if (live > 0) atomicAdd(&shared.words[3], live);
    // The keys and their number, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const auto better = [&](u64 key) {
        u32 found = 0;
#pragma unroll 1
        for (u32 i = 0; i < count; i++) found += keys[i] > key;
        return found;
    };
#pragma unroll 1
    for (u32 i = threadIdx.x; i < count; i += CONSUMER_THREADS) {
        const u64 key = keys[i];
        if (key == 0) continue;
        const u32 node = i / topk;
        const Candidate own = {key, listed(i).token, is_first ? NONE : record_of(frontier[node])};
        u32 rank = better(key);
        if (rank < topk) {
            growth.frontier[rank] = own;
            if (next_row + rank < ROW_LIMIT) growth.parents[next_row + rank] = is_first ? NONE : rows + node;
        }
#pragma unroll 1
        for (u32 j = 0; j < kept_count; j++) rank += kept[j].key > key;
        if (rank < ROW_LIMIT) growth.kept[rank] = own;
    }
#pragma unroll 1
    for (u32 j = threadIdx.x; j < kept_count; j += CONSUMER_THREADS) {
        const u32 rank = j + better(kept[j].key);
        if (rank < ROW_LIMIT) growth.kept[rank] = kept[j];
    }
    if (threadIdx.x == 0) {
        const u32 named = shared.words[3];
        growth.levels++;
        growth.records = records + count;
        growth.kept_count = smaller(kept_count + named, ROW_LIMIT);
        growth.width = smaller(named, topk);
        growth.last_row = rows;
        growth.rows = next_row;
    }
    // The level, to all; and all reads of shared memory.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}

// Names the next level of a tree that is drawn, instead of name_level: a few below the root, then one below each node. `lists` is
// TopLogprob [node of the frontier][TOP_LIMIT], of which the first counts; or one list with an entry for each node, if `is_shared`, as
// below the root. Where nothing was drawn the list says so. All that is named is kept, in order. By all consumers.
DEVICE_CALL void name_draws(const Program& program, u64 lists, bool is_shared, u32 most) {
    Growth& growth = control_of(program).growth;
    const bool is_first = growth.levels == 0;
    const u32 width = growth.width, rows = growth.rows, kept_count = growth.kept_count;
    const u32 count = is_first ? smaller(control_of(program).generation.topk, most) : width, i = threadIdx.x;
    TopLogprob named = {NONE, MINUS_INFINITY};
    Candidate above = {};
    const auto listed = [&](u32 node) {
        return load_l2_long(lists + (u64)(is_first || is_shared ? node : node * TOP_LIMIT) * sizeof(TopLogprob));
    };
    if (i < count) {
        const u64 words = listed(i);
        named = {(u32)words, float_of((u32)(words >> 32))};
        if (!is_first) above = growth.frontier[i];
    }
    u32 before = 0, drawn = 0;
#pragma unroll 1
    for (u32 other = 0; other < count; other++) {
        const bool is_drawn = float_of((u32)(listed(other) >> 32)) > MINUS_INFINITY;
        before += is_drawn && other < i;
        drawn += is_drawn;
    }
    // All reads of the level before, before it is replaced.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (named.logprob > MINUS_INFINITY) {
        const u32 record = kept_count + before;
        const float score = __fadd_rn(is_first ? 0.0f : score_of(above), smaller(named.logprob, 0.0f));
        const u64 key = (u64)ordered(larger(score, -LARGEST_FLOAT)) << 32 | (u32)~record;
        const Candidate own = {key, named.token, is_first ? NONE : record_of(above)};
        growth.frontier[before] = own;
        growth.kept[record] = own;
        if (rows + width + before < ROW_LIMIT) growth.parents[rows + width + before] = is_first ? NONE : rows + i;
    }
    if (i == 0) {
        growth.levels++;
        growth.records = growth.kept_count = kept_count + drawn;
        growth.width = drawn;
        growth.last_row = rows;
        growth.rows = rows + width;
    }
    // The level, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}

// Of a tree whose parents come before their children.
DEVICE u32 levels_of(const Tree& tree) {
    u32 levels = 0;
#pragma unroll 1
    for (u32 node = tree.nodes; node-- > 1;) {
        u32 depth = 0;
#pragma unroll 1
        for (u32 up = node; tree.parents[up] != NONE; up = tree.parents[up]) depth++;
        levels = larger(levels, depth);
    }
    return levels;
}

// The root and the best `nodes` - 1 of all that was named, in the order in which it was. By all consumers.
DEVICE_CALL void finish_growth(const Program& program, u32 nodes) {
    Control& control = control_of(program);
    const Growth& growth = control.growth;
    Tree& tree = control.tree;
    const u32 count = smaller(growth.kept_count, nodes - 1);
    if (threadIdx.x < count) {
        const Candidate own = growth.kept[threadIdx.x];
        u32 at = 1, parent = own.parent == NONE ? 0 : 1;
#pragma unroll 1
        for (u32 i = 0; i < count; i++) {
            const u32 other = record_of(growth.kept[i]);
            at += other < record_of(own);
            parent += own.parent != NONE && other < own.parent;
        }
        tree.tokens[at] = own.token;
        tree.parents[at] = parent;
        tree.scores[at] = score_of(own);
    }
    if (threadIdx.x == 0) tree.nodes = 1 + count;
    // The tree, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}
