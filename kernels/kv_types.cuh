// Types of K and V: what they are rounded to, and so what attention multiplies.
#pragma once
#include "mma.cuh"

struct KvBf16 {
    // 1 twice.
    static constexpr u32 ONES = 0x3f803f80u;

    static METHOD u32 pack(float low, float high) { return pack_bf16(low, high); }
    static METHOD void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_bf16(c, a, b0, b1); }
};

struct KvF16 {
    static constexpr u32 ONES = 0x3c003c00u;

    static METHOD u32 pack(float low, float high) { return pack_f16(low, high); }
    static METHOD void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_f16(c, a, b0, b1); }
};
