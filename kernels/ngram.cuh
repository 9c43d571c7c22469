// Guesses from the sequence itself: what followed the last place where its end stood before, and where that reaches the end,
// the same again. They make a chain.
#pragma once
#include "control.cuh"
#include "program.cuh"
#include "sync.cuh"

// Tokens of the end that are compared: longer repetitions are not told apart.
#define MATCH_LIMIT 32u

// By all consumers of a block. Finds, for the end of history[0..known], the earlier place with the longest equal end (of
// equally long ones the latest), and makes of `limit` tokens that follow it, these guesses among them, the nodes from 1 on.
// Returns how many, 0 if not even the last token stood anywhere before.
DEVICE u32 guess_tokens(const Program& program, Shared& shared, Tree& tree, u32 known, u32 limit) {
    const u32* const history = (const u32*)program.history;
    u64* const best = shared.best;
    limit = smaller(limit, smaller(VERIFY_ROWS, control_of(program).generation.nodes) - 1);
    if (threadIdx.x == 0) best[0] = 0;
    // The initial 0, before any maximum.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    u64 mine = 0;
#pragma unroll 1
    for (u32 end = 1 + threadIdx.x; end < known; end += CONSUMER_THREADS) {
        u32 match = 0;
#pragma unroll 1
        while (match < smaller(end, MATCH_LIMIT) && history[end - 1 - match] == history[known - 1 - match]) match++;
        if (match > 0) mine = larger(mine, (u64)match << 32 | end);
    }
    if (mine) atomicMax(best, mine);
    // All maxima, before they are read.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const u64 found = best[0];
    if (found == 0) return 0;
    const u32 from = (u32)found, period = known - from;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < limit; i += CONSUMER_THREADS) {
        tree.tokens[1 + i] = history[from + i % period];
        tree.parents[1 + i] = i;
        tree.scores[1 + i] = 0.0f;
    }
    return limit;
}
