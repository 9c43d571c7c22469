// Root-mean-square norms are applied after the product: y is multiplied by one number a row. The sums of squares that it
// needs lie in the workspace, one for each tile of 16 channels.
#pragma once
#include "program.cuh"

#define SQUARES_AT_ONCE 8u
// Rows of a warp whose squares are under way together.
#define ROWS_AT_ONCE 2u

// Sums of squares of the rows that are normed.
struct Squares {
    u32 stats;  // workspace: f32 [row][tiles]
    u32 tiles;
    float eps, inverse_n;
};

// shared.row_scales[j] = 1 / sqrt(mean square + eps) of `rows` rows, row j being outputs[j] if they are gathered; one warp a
// row, so that the order of the sum does not depend on how many there are. The others see it after a barrier.
DEVICE void norm_scales(const Program& program, Shared& shared, const Squares& squares, u32 rows, bool gathered) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll 1
    for (u32 row = threadIdx.x / 32; row < rows; row += ROWS_AT_ONCE * CONSUMER_WARPS) {
        u64 stats[ROWS_AT_ONCE];
        float sums[ROWS_AT_ONCE] = {};
#pragma unroll
        for (u32 j = 0; j < ROWS_AT_ONCE; j++) {
            // A row that there is not is the first one once more.
            const u32 own = row + j * CONSUMER_WARPS < rows ? row + j * CONSUMER_WARPS : row;
            stats[j] = program.workspace + squares.stats + (u64)(gathered ? shared.call.outputs[own] : own) * squares.tiles * 4;
        }
        // Some at a time, so that they are on their way together.
#pragma unroll 1
        for (u32 first = lane; first < squares.tiles; first += 32 * SQUARES_AT_ONCE) {
            float values[ROWS_AT_ONCE][SQUARES_AT_ONCE];
#pragma unroll
            for (u32 i = 0; i < SQUARES_AT_ONCE; i++)
#pragma unroll
                for (u32 j = 0; j < ROWS_AT_ONCE; j++) {
                    const u32 tile = first + i * 32;
                    values[j][i] = 0.0f;
                    if (tile < squares.tiles) values[j][i] = load_l2_float(stats[j] + tile * 4);
                }
            // Sums of squares are not negative, so that adding 0 changes no bit.
#pragma unroll
            for (u32 i = 0; i < SQUARES_AT_ONCE; i++)
#pragma unroll
                for (u32 j = 0; j < ROWS_AT_ONCE; j++) sums[j] = __fadd_rn(sums[j], values[j][i]);
        }
#pragma unroll
        for (u32 distance = 16; distance > 0; distance /= 2)
#pragma unroll
            for (u32 j = 0; j < ROWS_AT_ONCE; j++) sums[j] = __fadd_rn(sums[j], __shfl_xor_sync(ALL_LANES, sums[j], distance));
        // Each row by a lane of its own, so that they take the time of one.
        float sum = sums[0];
#pragma unroll
        for (u32 j = 1; j < ROWS_AT_ONCE; j++) sum = lane == j ? sums[j] : sum;
        const u32 own = row + lane * CONSUMER_WARPS;
        if (lane >= ROWS_AT_ONCE || own >= rows) continue;
        const float mean = __fadd_rn(__fmul_rn(sum, squares.inverse_n), squares.eps);
        shared.row_scales[own] = __fdiv_rn(1.0f, __fsqrt_rn(mean));
    }
}

// Of the rows that a linear phase reads.
DEVICE void row_scales(const Program& program, Shared& shared) {
    const LinearPhase& phase = shared.phase.linear;
    norm_scales(program, shared, {phase.stats, phase.stat_tiles, phase.eps, phase.inverse_n}, phase_rows(shared),
                phase.input_rows == ROWS_GATHERED);
}
