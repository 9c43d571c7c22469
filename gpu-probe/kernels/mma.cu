// The rate of tensor cores through mma.sync, with registers as the only operands.
#include "mma.cuh"
#include "probe.cuh"

#define CHAINS 8

struct MmaArguments {
    u64 sums;    // u32 a block: how many of its sums are right
    u64 stamps;  // Stamp a block
    u32 count;   // products of each of the CHAINS chains of a warp; up to 2^20, so that f32 holds the sums exactly
    u32 pad;
};

// Sign of row, column or k, so that bits toggle as in a matrix of both signs: 0 or 1.
DEVICE u32 sign(u32 i) { return (i * 0x9e3779b1u) >> 31; }

// Element (row, k) is sign(row) sign(k) 2^(k % 2) and (k, column) is sign(column) sign(k) 2^-(k % 2): every product is
// sign(row) sign(column), and so a sum is 16 times the number of products with this sign. ONE and HALF are 1.0 and what
// the exponent's lowest bit adds.
template <bool BF16> DEVICE void mma_run(const MmaArguments& arguments) {
    const u32 one = BF16 ? 0x3f80 : 0x3c00, step = BF16 ? 0x80 : 0x400;
    const u32 lane = threadIdx.x % 32, group = lane / 4, slot = lane % 4, salt = threadIdx.x / 32 * 64;
    u32 a[4], b[2];
    for (u32 j = 0; j < 4; j++) {
        u32 word = 0;
        for (u32 half = 0; half < 2; half++) {
            const u32 row = group + j % 2 * 8, k = 2 * slot + half + j / 2 * 8;
            const u32 value = (one + step * (k % 2)) | (sign(salt + row) ^ sign(k + 32)) << 15;
            word |= value << 16 * half;
        }
        a[j] = word;
    }
    for (u32 j = 0; j < 2; j++) {
        u32 word = 0;
        for (u32 half = 0; half < 2; half++) {
            const u32 column = group, k = 2 * slot + half + j * 8;
            const u32 value = (one - step * (k % 2)) | (sign(salt + column + 16) ^ sign(k + 32)) << 15;
            word |= value << 16 * half;
        }
        b[j] = word;
    }
    float c[CHAINS][4] = {};
    __syncthreads();
    const Stamp stamp = stamp_begin();
#pragma unroll 1
    for (u32 i = 0; i < arguments.count; i++)
#pragma unroll
        for (u32 chain = 0; chain < CHAINS; chain++) {
            if (BF16) mma_bf16(c[chain], a, b[0], b[1]);
            else mma_f16(c[chain], a, b[0], b[1]);
        }
    u32 right = 0;
    for (u32 chain = 0; chain < CHAINS; chain++)
        for (u32 j = 0; j < 4; j++) {
            const u32 row = group + j / 2 * 8, column = 2 * slot + j % 2;
            const float expected = 16.f * arguments.count;
            const bool negative = sign(salt + row) ^ sign(salt + column + 16);
            right += c[chain][j] == (negative ? -expected : expected);
        }
    __syncthreads();
    if (threadIdx.x == 0) stamp_end(stamp, arguments.count, arguments.stamps);
    add_sum(right, arguments.sums + blockIdx.x * 4);
}

KERNEL __launch_bounds__(512, 1) mma_rate_bf16(const MmaArguments arguments) { mma_run<true>(arguments); }
KERNEL __launch_bounds__(512, 1) mma_rate_f16(const MmaArguments arguments) { mma_run<false>(arguments); }
