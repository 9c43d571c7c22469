// Keeps Program::counts, Count [vocab_size], up to date as the sequence grows.
#pragma once
#include "penalties.cuh"

DEVICE void change_count(const Program& program, const Sampling& sampling, u32 index, u32 token, u32 change) {
    const u64 count = program.counts + 8ull * token;
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(count), "r"(change) : "memory");
    if (index >= sampling.prompt_length)
        asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(count + 4), "r"(change) : "memory");
}

// By the consumers of one block: `tokens`, at most 2^31 - 1 of them, become tokens length .. length + count of the
// sequence, the first `length` of which are counted. Tokens that leave the window of the penalties are taken from
// Program::history, which holds all that are counted already. Every token is in the vocabulary. Whoever reads the
// counts must be ordered after this block.
DEVICE void count_tokens(const Program& program, const Sampling& sampling, u32 length, const u32* tokens, u32 count) {
    const u32 old_start = window_start(length, sampling.penalty_window);
    const u32 start = window_start(length + count, sampling.penalty_window);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < count; i += CONSUMER_THREADS)
        if (length + i >= start) change_count(program, sampling, length + i, tokens[i], 1);
    // What is new and has left already was not added above.
#pragma unroll 1
    for (u32 index = old_start + threadIdx.x; index < smaller(start, length); index += CONSUMER_THREADS)
        change_count(program, sampling, index, load_l2(program.history + 4ull * index), (u32)-1);
}
