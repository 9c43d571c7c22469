// Root-mean-square norms are applied after the product: y is multiplied by one number a row. The sums of squares that it
// needs lie in the workspace, one for each tile of 16 channels.
#pragma once
#include "program.cuh"

#define SQUARES_AT_ONCE 8u

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
    for (u32 row = threadIdx.x / 32; row < rows; row += CONSUMER_WARPS) {
        const u32 source = gathered ? shared.call.outputs[row] : row;
        const u64 stats = program.workspace + squares.stats + (u64)source * squares.tiles * 4;
        float sum = 0.0f;
        // Some at a time, so that they are on their way together.
#pragma unroll 1
        for (u32 first = lane; first < squares.tiles; first += 32 * SQUARES_AT_ONCE) {
            float values[SQUARES_AT_ONCE];
#pragma unroll
            for (u32 i = 0; i < SQUARES_AT_ONCE; i++) {
                const u32 tile = first + i * 32;
                values[i] = 0.0f;
                if (tile < squares.tiles) values[i] = load_l2_float(stats + tile * 4);
            }
            // Sums of squares are not negative, so that adding 0 changes no bit.
#pragma unroll
            for (u32 i = 0; i < SQUARES_AT_ONCE; i++) sum = __fadd_rn(sum, values[i]);
        }
#pragma unroll
        for (u32 distance = 16; distance > 0; distance /= 2)
            sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
        const float mean = __fadd_rn(__fmul_rn(sum, squares.inverse_n), squares.eps);
        if (lane == 0) shared.row_scales[row] = __fdiv_rn(1.0f, __fsqrt_rn(mean));
    }
}

// Of the rows that a linear phase reads.
DEVICE void row_scales(const Program& program, Shared& shared) {
    const LinearPhase& phase = shared.phase.linear;
    norm_scales(program, shared, {phase.stats, phase.stat_tiles, phase.eps, phase.inverse_n}, phase_rows(shared),
                phase.input_rows == ROWS_GATHERED);
}
