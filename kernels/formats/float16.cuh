// bf16 and f16, without scales. A lane's 16 bytes are one step: a0, a1, a2, a3.
#pragma once
#include "formats/scales.cuh"

struct Float16 : NoScales {
    static constexpr u32 BITS = 16;
    static METHOD u32 place(u32 row, u32 k) {
        const Spot at = spot_of(row, k);
        return 8 * (512 * (2 * at.block + at.step) + 16 * at.lane + 8 * at.pair + 4 * at.upper + 2 * at.odd);
    }
};

struct Bf16 : Float16 {
    static constexpr u32 MULTIPLES = 1;
    static METHOD float value(u32 bits) { return bf16_low(bits); }
    static METHOD void fragment(const uint4 (&words)[4], u32 step, u32, u32 (&a)[4]) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) a[i] = word_of(words[step], i);
    }
};

// Two bf16, whose sum it is: rounded to the 8 bits that bf16 has, and the rest, at most 3 bits. Both exact, so no activation
// is rounded for f16's sake.
struct F16 : Float16 {
    static constexpr u32 MULTIPLES = 2;
    static METHOD float value(u32 bits) { return f16_low(bits); }
    static METHOD void fragment(const uint4 (&words)[4], u32 step, u32 m, u32 (&a)[4]) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 pair = word_of(words[step], i);
            const float low = f16_low(pair), high = f16_high(pair);
            a[i] = pack_bf16(low, high);
            if (m == 1) a[i] = pack_bf16(__fsub_rn(low, bf16_low(a[i])), __fsub_rn(high, bf16_high(a[i])));
        }
    }
};
