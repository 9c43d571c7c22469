// Sums of the weights e^logit of a row, in pieces that add up to the same bits in any order: so that probabilities can be told of a row
// whose logits nobody has kept. The same as stheno's speculation::sampling::likeliest.
//
// Which logit is the largest is not known before all are, so a weight is a number of 2^n: whole in steps of 2^-26. The sum of a tile of
// 16 is in steps of its largest weight's, what is below is cut; so is that of a row in steps of the row's largest.
//
// In memory, at LinearPhase::listed: keys u64 [block][ROW_LIMIT], of which row i of the call has those from i * listed on; then sums
// u64 [row][tile], n above and the sum below.
#pragma once
#include "math.cuh"
#include "order.cuh"
#include "program.cuh"

// Logits beyond are taken for this: it is what can be split into n and rest.
#define LARGEST_WEIGHED 1000000.0f
// n of no weight.
#define NO_EXPONENT (-(1 << 24))

DEVICE u64 listed_key(u64 listed, u32 block, u32 slot) { return listed + ((u64)block * ROW_LIMIT + slot) * 8; }
DEVICE u64 tile_sum(u64 listed, u32 columns, u32 row, u32 tile) {
    return listed + ((u64)gridDim.x * ROW_LIMIT + (u64)row * divide_up(columns, TILE_ROWS) + tile) * 8;
}

DEVICE float weighed(float logit) { return smaller(larger(__fadd_rn(logit, 0.0f), -LARGEST_WEIGHED), LARGEST_WEIGHED); }

// e^logit = sum * 2^(exponent - 26).
struct Weight {
    int exponent;
    u32 sum;

    // In steps of a larger one's exponent.
    METHOD u32 below(int largest) const { return sum >> smaller(largest - exponent, 31); }
};

// Of a finite logit or -inf, which has none.
DEVICE Weight weight_of(float logit) {
    const Reduced of = reduced(weighed(logit));
    const u32 sum = __float2uint_rz(__fmul_rn(exp_of_rest(of.rest), 67108864.0f));
    return logit > MINUS_INFINITY ? Weight{of.n, sum} : Weight{NO_EXPONENT, 0};
}

// The sum of a tile, whose weights `lanes` * 2 lanes that follow each other have. By whole warps.
DEVICE u64 sum_of_tile(Weight own, u32 lanes) {
    int largest = own.exponent;
#pragma unroll 1
    for (u32 distance = lanes; distance > 0; distance /= 2)
        largest = larger(largest, __shfl_xor_sync(ALL_LANES, largest, distance));
    u32 sum = own.below(largest);
#pragma unroll 1
    for (u32 distance = lanes; distance > 0; distance /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);
    return (u64)(u32)largest << 32 | sum;
}

// What a tile adds to the sum of its row, in steps of 2^-42 of 2^largest.
DEVICE u64 share_of_tile(u64 sum, int largest) {
    return (sum & 0xffffffffu) << 16 >> smaller(largest - (int)(u32)(sum >> 32), 63);
}
