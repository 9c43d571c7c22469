// Integers of 8 and 4 bits with scales, and offsets if asked for.
#pragma once
#include "formats/scales.cuh"

// (word & mask) | bits in one instruction.
DEVICE u32 mask_and_set(u32 word, u32 mask, u32 bits) {
    u32 result;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(word), "r"(mask), "r"(bits));
    return result;
}

// x + y of two bf16 pairs, where the sums are exact.
DEVICE u32 add_bf16(u32 x, u32 y) {
    u32 sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(0x3f803f80u), "r"(y));
    return sum;
}

// Two's complement. Words w0 and w1 of a step: bytes 0 and 2 of them are a0 and a2, bytes 1 and 3 a1 and a3.
template <u32 GROUP, bool OFFSET> struct Int8 : Scales<GROUP, OFFSET> {
    static constexpr u32 BITS = 8;
    static METHOD u32 place(u32 row, u32 k) {
        const Spot at = spot_of(row, k);
        return 8 * (512 * at.block + 16 * at.lane + 8 * at.step + 4 * at.pair + 2 * at.odd + at.upper);
    }
    static METHOD float value(u32 bits) { return (float)(signed char)(bits & 0xff); }
    static METHOD void fragment(const uint4 (&words)[2], u32 step, u32, u32 (&a)[4]) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 word = word_of(words[step / 2], step % 2 * 2 + i / 2) >> i % 2 * 8;
            // 128 + the low seven bits, minus 128 or, with the sign bit, 256.
            a[i] = add_bf16(mask_and_set(word, 0x007f007fu, 0x43004300u), mask_and_set(word, 0x00800080u, 0xc300c300u));
        }
    }
};

// 0 to 15 with offset, -8 to 7 (stored plus 8) without. A word is a step: nibbles i and i + 4 are a_i.
template <u32 GROUP, bool OFFSET> struct Int4 : Scales<GROUP, OFFSET> {
    static constexpr u32 BITS = 4;
    static METHOD u32 place(u32 row, u32 k) {
        const Spot at = spot_of(row, k);
        const u32 byte = 512 * (at.block / 2) + 16 * at.lane + 8 * (at.block % 2) + 4 * at.step + 2 * at.odd + at.pair;
        return 8 * byte + 4 * at.upper;
    }
    static METHOD float value(u32 bits) { return (float)((int)(bits & 15) - (OFFSET ? 0 : 8)); }
    static METHOD void fragment(const uint4 (&words)[1], u32 step, u32, u32 (&a)[4]) {
        // -128 or -136.
        const u32 bias = OFFSET ? 0xc300c300u : 0xc308c308u;
#pragma unroll
        for (u32 i = 0; i < 4; i++)
            a[i] = add_bf16(mask_and_set(word_of(words[0], step) >> 4 * i, 0x000f000fu, 0x43004300u), bias);
    }
};
