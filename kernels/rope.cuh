// One head of one row between the products of QKV and attention: RMS norm over the head, then rotation. A warp does a
// head; what comes out depends on the head's products and position only.
#pragma once
#include "program.cuh"

// Element lane + 32 i of the head is x[i].
template <u32 HEAD_DIM> struct Head {
    static constexpr u32 EACH = (HEAD_DIM + 31) / 32;
    float x[EACH];

    static METHOD u32 element(u32 i) { return threadIdx.x % 32 + 32 * i; }
    // Whether the lane has an i-th element.
    static METHOD bool has(u32 i) { return HEAD_DIM % 32 == 0 || element(i) < HEAD_DIM; }
};

// From f32 [HEAD_DIM] that other blocks wrote.
template <u32 HEAD_DIM> DEVICE void load_head(Head<HEAD_DIM>& head, u64 from) {
    from += 4 * head.element(0);
#pragma unroll
    for (u32 i = 0; i < head.EACH; i++) head.x[i] = head.has(i) ? load_l2_float(from + 128 * i) : 0.0f;
}

// RMS norm with f32 weights [HEAD_DIM]. Here and below every product and sum is written out: a compiler must not
// contract them one way in one place and another way in another.
template <u32 HEAD_DIM> DEVICE void norm_head(Head<HEAD_DIM>& head, u64 weights, float eps) {
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < head.EACH; i++) sum = __fmaf_rn(head.x[i], head.x[i], sum);
#pragma unroll
    for (u32 distance = 16; distance > 0; distance /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
    const float factor = __frcp_rn(__fsqrt_rn(__fadd_rn(__fdiv_rn(sum, (float)HEAD_DIM), eps)));
    weights += 4 * head.element(0);
#pragma unroll
    for (u32 i = 0; i < head.EACH; i++)
        if (head.has(i)) head.x[i] = __fmul_rn(__fmul_rn(head.x[i], factor), load_constant_float(weights + 128 * i));
}

// Rotation of pairs (i, i + pairs) by cosine and sine, f32 [pairs][2] at `rotation`.
template <u32 HEAD_DIM> DEVICE void rotate_head(Head<HEAD_DIM>& head, u64 rotation, u32 pairs) {
    Head<HEAD_DIM> rotated = head;
#pragma unroll
    for (u32 i = 0; i < head.EACH; i++) {
        const u32 element = head.element(i);
        const bool is_first = element < pairs;
        const u32 partner = is_first ? element + pairs : element - pairs;
        float other = 0.0f;
#pragma unroll
        for (u32 j = 0; j < head.EACH; j++) {
            const float theirs = __shfl_sync(ALL_LANES, head.x[j], partner % 32);
            other = partner / 32 == j ? theirs : other;
        }
        if (element < 2 * pairs) {
            const u64 angle = rotation + 8 * (is_first ? element : partner);
            const float across = __fmul_rn(other, load_constant_float(angle + 4));
            rotated.x[i] = __fmaf_rn(head.x[i], load_constant_float(angle), is_first ? -across : across);
        }
    }
    head = rotated;
}

// Rounds to KvType, [HEAD_DIM] of 16 bits from `to`: generic addresses.
template <typename KvType, u32 HEAD_DIM> DEVICE void store_head(u8* to, const Head<HEAD_DIM>& head) {
#pragma unroll
    for (u32 i = 0; i < head.EACH; i++)
        if (head.has(i)) *(u16*)(to + 2 * head.element(i)) = (u16)KvType::pack(head.x[i], 0.0f);
}
