// Passes over a row of logits by the 256 consumers of a block: thread t takes groups t, t + 256, ... of four tokens, so
// that a group's noise is one draw of Philox, and several loads of a thread are under way before it looks at the first.
#pragma once
#include "consumers.cuh"
#include "order.cuh"

DEVICE float logit_at(uint4 logits, u32 i) {
    return float_of(i == 0 ? logits.x : i == 1 ? logits.y : i == 2 ? logits.z : logits.w);
}

// Logits of a group; -inf past the end of the vocabulary. Rows of a vocabulary that is no multiple of four may start
// anywhere.
DEVICE uint4 load_group(u64 logits, u32 vocab_size, u32 group) {
    const u32 token = group * 4;
    const u64 address = logits + 16ull * group;
    if (address % 16 == 0 && token + 4 <= vocab_size) return load_l2_vector(address);
    uint4 four = make_uint4(0xff800000u, 0xff800000u, 0xff800000u, 0xff800000u);
    if (token < vocab_size) four.x = load_l2(address);
    if (token + 1 < vocab_size) four.y = load_l2(address + 4);
    if (token + 2 < vocab_size) four.z = load_l2(address + 8);
    if (token + 3 < vocab_size) four.w = load_l2(address + 12);
    return four;
}

// Calls visit(group, load(group)), with FLIGHT loads of a thread under way. Whole warps come along, also past the last
// group, so that they may vote.
template <u32 FLIGHT, typename Load, typename Visit> DEVICE void pass_over(u32 vocab_size, Load load, Visit visit) {
    const u32 groups = divide_up(vocab_size, 4);
    const u32 lane = threadIdx.x % 32;
    for (u32 base = threadIdx.x - lane; base < groups; base += FLIGHT * CONSUMER_THREADS) {
        decltype(load(0u)) loaded[FLIGHT] = {};
#pragma unroll
        for (u32 i = 0; i < FLIGHT; i++) {
            const u32 group = base + i * CONSUMER_THREADS + lane;
            if (base + i * CONSUMER_THREADS < groups) loaded[i] = load(group);
        }
        // One copy of what may be long: the next to be visited moves to the front.
#pragma unroll 1
        for (u32 i = 0; i < FLIGHT && base + i * CONSUMER_THREADS < groups; i++) {
            visit(base + i * CONSUMER_THREADS + lane, loaded[0]);
#pragma unroll
            for (u32 j = 0; j + 1 < FLIGHT; j++) loaded[j] = loaded[j + 1];
        }
    }
}

// The same over logits alone; visit gets them as they are.
template <u32 FLIGHT, typename Visit> DEVICE void pass_over_logits(u64 logits, u32 vocab_size, Visit visit) {
    pass_over<FLIGHT>(
        vocab_size, [&](u32 group) { return load_group(logits, vocab_size, group); }, visit);
}

// Key of the largest logit, of all threads' tokens; 0 if all are -inf.
DEVICE u64 largest_of(Shared& shared, u64 logits, u32 vocab_size) {
    Best best = no_best();
    pass_over_logits<4>(logits, vocab_size, [&](u32 group, uint4 four) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) best.see(finite_logit(logit_at(four, i)), group * 4 + i);
    });
    return reduce_max(shared, best.key());
}
