// Penalties for tokens that prompt and output hold already, as stheno's speculation::sampling::penalties.
// Program::counts covers the history and the root of the call; a row deeper in the call's tree also has its ancestors
// and its own token, and what they push out of the window.
#pragma once
#include "consumers.cuh"

// One entry of a row's path: a token that enters or leaves the window, at PATH_AT.
struct Step {
    u32 token;   // NONE: no entry
    int all;     // 1 or -1
    int output;  // the same for tokens of the output, 0 for those of the prompt
};

DEVICE Step load_step(const Shared& shared, u32 index) {
    const u32 address = region(shared, PATH_AT) + index * 12;
    return {shared_word(address), (int)shared_word(address + 4), (int)shared_word(address + 8)};
}
static_assert(PATH_AT + 2 * ROW_LIMIT * 12 <= CHUNK_AT, "room for the path");

// First index of a sequence of that length that penalties see.
DEVICE u32 window_start(u32 length, u32 window) { return length > window ? length - window : 0; }

// Writes the steps from the call's root to the row, and returns how many there are: 2 for each token below the root.
DEVICE u32 find_path(const Program& program, Shared& shared, const Sampling& sampling, u32 leaf) {
    const Call& call = shared.call;
    u32 depth = 0, root = leaf;
#pragma unroll 1
    for (; call.parents[root] != NONE; depth++) root = call.parents[root];
    // The root is token call.length of the sequence; the row's own token is the last.
    const u32 first_added = call.length + 1;
    const u32 old_start = window_start(first_added, sampling.penalty_window);
    const u32 start = window_start(first_added + depth, sampling.penalty_window);
    if (threadIdx.x < 2 * depth) {
        Step step = {NONE, 0, 0};
        u32 index;
        if (threadIdx.x < depth) {
            index = first_added + threadIdx.x;
            // A chain longer than the window loses its own tokens again.
            if (index >= start) {
                u32 node = leaf;
#pragma unroll 1
                for (u32 up = depth - 1 - threadIdx.x; up > 0; up--) node = call.parents[node];
                step = {call.tokens[node], 1, 1};
            }
        } else {
            index = old_start + threadIdx.x - depth;
            if (index < start && index < first_added)
                step = {index < call.length ? load_l2(program.history + 4ull * index) : call.tokens[root], -1, -1};
        }
        if (index < sampling.prompt_length) step.output = 0;
        const u32 address = region(shared, PATH_AT) + threadIdx.x * 12;
        set_shared_word(address, step.token);
        set_shared_word(address + 4, (u32)step.all);
        set_shared_word(address + 8, (u32)step.output);
    }
    // Orders the path before it is read.
    consumers_meet();
    return 2 * depth;
}

// Count of a token for the row whose path has that many steps.
DEVICE Count count_of(const Program& program, const Shared& shared, u32 steps, u32 token) {
    const u64 base = load_l2_long(program.counts + 8ull * token);
    Count count = {(u32)base, (u32)(base >> 32)};
#pragma unroll 1
    for (u32 i = 0; i < steps; i++) {
        const Step step = load_step(shared, i);
        if (step.token == token) {
            count.all += (u32)step.all;
            count.output += (u32)step.output;
        }
    }
    return count;
}

// The repetition penalty first, then frequency, then presence.
DEVICE float penalise(const Sampling& sampling, float logit, Count count) {
    if (count.all == 0) return logit;
    const float repeated = logit > 0.0f ? __fdiv_rn(logit, sampling.repetition_penalty)
                                        : __fmul_rn(logit, sampling.repetition_penalty);
    if (count.output == 0) return repeated;
    const float frequent = __fmaf_rn(__uint2float_rn(count.output), -sampling.frequency_penalty, repeated);
    return __fsub_rn(frequent, sampling.presence_penalty);
}
