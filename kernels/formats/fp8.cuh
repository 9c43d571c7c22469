// FP8 E4M3 with scales. Words of a step: halves are a0, a1 and a2, a3.
#pragma once
#include "formats/scales.cuh"

// The two codes in the low half of a word as bf16, exact.
DEVICE u32 e4m3_pair(u32 codes) {
#if __CUDA_ARCH__ >= 890
    u32 halves;
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.rn.f16x2.e4m3x2 %0, low; }" : "=r"(halves) : "r"(codes));
    return pack_bf16(f16_low(halves), f16_high(halves));
#else
    // Sign, exponent and mantissa in their places: a bf16 that is too small by the difference of the exponents' biases.
    const u32 apart = (codes & 0xff) << 8 | (codes & 0xff00) << 16;
    const u32 small = (apart & 0x80008000u) | (apart & 0x7f007f00u) >> 4;
    u32 pair;
    // 2^120, and -0, which changes no sum, not even -0.
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(small), "r"(0x7b807b80u), "r"(0x80008000u));
    return pair;
#endif
}

template <u32 GROUP> struct Fp8 : Scales<GROUP, false> {
    static constexpr u32 BITS = 8;
    static METHOD u32 place(u32 row, u32 k) {
        const Spot at = spot_of(row, k);
        return 8 * (512 * at.block + 16 * at.lane + 8 * at.step + 4 * at.pair + 2 * at.upper + at.odd);
    }
    static METHOD float value(u32 bits) { return bf16_low(e4m3_pair(bits & 0xff)); }
    static METHOD void fragment(const uint4 (&words)[2], u32 step, u32, u32 (&a)[4]) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) a[i] = e4m3_pair(word_of(words[step / 2], step % 2 * 2 + i / 2) >> i % 2 * 16);
    }
};
