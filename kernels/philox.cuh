// Philox4x32-10 (Salmon et al., 2011), the same as stheno's speculation::sampling::philox: randomness as a pure
// function of a counter and a key. The key is the seed (low word first), the counter [position, token / 4, stream,
// node], and word token % 4 of the result belongs to the token.
#pragma once
#include "math.cuh"
#include "prelude.cuh"

// Stream of the draws that choose tokens; their node is 0.
#define STREAM_CHOICE 0u
// Of those that choose the tokens of a sampled draft, and of those that accept or reject them.
#define STREAM_DRAFT 1u
#define STREAM_ACCEPTANCE 2u

// Ten rounds.
DEVICE uint4 philox4x32_10(uint4 counter, uint2 key) {
#pragma unroll
    for (u32 round = 0; round < 10; round++) {
        const u64 a = (u64)counter.x * 0xd2511f53u;
        const u64 b = (u64)counter.z * 0xcd9e8d57u;
        counter = make_uint4((u32)(b >> 32) ^ counter.y ^ key.x, (u32)b, (u32)(a >> 32) ^ counter.w ^ key.y, (u32)a);
        key = make_uint2(key.x + 0x9e3779b9u, key.y + 0xbb67ae85u);
    }
    return counter;
}

// The words of tokens 4 group to 4 group + 3.
DEVICE uint4 words_of(u64 seed, u32 position, u32 group, u32 stream, u32 node) {
    return philox4x32_10(make_uint4(position, group, stream, node), make_uint2((u32)seed, (u32)(seed >> 32)));
}
DEVICE uint4 choice_words(u64 seed, u32 position, u32 group) { return words_of(seed, position, group, STREAM_CHOICE, 0); }

// A word as a number in (0, 1): of the upper 31 bits k, fma(float(k), 2^-31, 2^-32), and at most 1 - 2^-24.
DEVICE float unit(u32 word) {
    const float v = __fmaf_rn((float)(int)(word >> 1), 4.656612873077393e-10f, 2.3283064365386963e-10f);
    return v < 1.0f ? v : 0.99999994f;
}

// Standard Gumbel noise, -log(-log(1 - unit(word))). Between -2.8 and 22.2.
DEVICE float gumbel(u32 word) { return -exact_log(neg_log_one_minus(unit(word))); }

// At least gumbel(word), without a logarithm: unit(word) is at least 2^-(z + 1) for z leading zeros, and -log(1 - v) >=
// v.
DEVICE float gumbel_at_most(u32 word) { return __fmaf_rn((float)(__clz((int)word) + 1), 0.6931472f, 0.01f); }
