// What the next op reads of the residual: bf16(residual * weight) in B order, and the sums of squares of its norm.
#pragma once
#include "program.cuh"
#include "residual.cuh"

// Byte, in a buffer in B order, of column k of a row; `row_tiles` are those of the buffer.
DEVICE u32 b_order(u32 k, u32 row, u32 row_tiles) {
    return (k / 32 * row_tiles + row / 8) * 512 + (4 * (row % 8) + k % 32 / 8) * 16 + 2 * (k % 8);
}

struct View {
    u32 buffer;     // workspace, or NONE
    u32 weight;     // constants: f32 [channel], or NONE for 1
    u32 stats;      // workspace: f32 [row][tiles], or NONE
    u32 tiles;      // of the residual
    u32 row_tiles;  // of the buffer
};

// Weights of the view of a block's tiles from `first_tile` on, of which `channels` exist in all, into shared memory: they come from
// memory, and would be waited for when the block is done. By all consumers, and not the thread that waits for edges; visible after
// a barrier.
DEVICE void fetch_view_weights(const Program& program, Shared& shared, const View& view, u32 first_tile, u32 tiles, u32 channels) {
    const u32 i = threadIdx.x - 64;
    const u32 channel = first_tile * TILE_ROWS + i;
    if (i < smaller(tiles, VIEW_TILES) * TILE_ROWS && view.buffer != NONE && view.weight != NONE && channel < channels)
        shared.view_weights[i] = load_constant_float(program.constants + view.weight + channel * 4);
}

// The weight of a channel.
DEVICE float view_weight(const Program& program, const View& view, u32 channel) {
    return view.weight == NONE ? 1.0f : load_constant_float(program.constants + view.weight + channel * 4);
}

// Writes one channel of the view, of the weight `weight`; the 16 channels of a tile and row are in 16 lanes that follow each other,
// and the whole warp calls. `live`: there is such a row and channel; others count as 0 and are not written.
DEVICE void write_view(const Program& program, const View& view, u32 tile, u32 r, u32 row, float weight, float residual,
                       bool live) {
    const u32 channel = tile * TILE_ROWS + r;
    residual = live ? residual : 0.0f;
    if (view.buffer != NONE) {
        const float value = __fmul_rn(residual, weight);
        const float next = __shfl_down_sync(ALL_LANES, value, 1);
        if (live && r % 2 == 0)
            store_word(program.workspace + view.buffer + b_order(channel, row, view.row_tiles), pack_bf16(value, next));
    }
    if (view.stats != NONE) {
        // Each lane adds the same two sums at each step, so all have the same bits.
        float sum = __fmul_rn(residual, residual);
#pragma unroll
        for (u32 distance = 8; distance > 0; distance /= 2)
            sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
        if (live && r == 0) store_float(program.workspace + view.stats + ((u64)row * view.tiles + tile) * 4, sum);
    }
}

// residual = value(row, channel) of `rows` rows and `columns` channels, those of the block's tiles, and its view. By all
// consumers.
template <typename Value>
DEVICE void begin_residual(const Program& program, const View& view, u32 columns, u32 rows, const Value& value) {
    const u32 first = first_owned(view.tiles, blockIdx.x);
    const u32 count = first_owned(view.tiles, blockIdx.x + 1) - first;
    // Orders what other threads read of the residual before it is written.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    // Whole warps take part in the view, so the rows are rounded up to pairs.
    const u32 pairs = divide_up(rows, 2) * 2;
    for (u32 at = threadIdx.x; at < count * pairs * TILE_ROWS; at += CONSUMER_THREADS) {
        const u32 r = at % TILE_ROWS, row = at / TILE_ROWS % pairs, local = at / (TILE_ROWS * pairs);
        const u32 k = (first + local) * TILE_ROWS + r;
        const bool live = row < rows && k < columns;
        float residual = 0.0f, weight = 0.0f;
        if (live) {
            weight = view_weight(program, view, k);
            residual_row(local, row)[r] = residual = value(row, k);
        }
        write_view(program, view, first + local, r, row, weight, residual, live);
    }
    // Orders the residual before what other threads read next.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}
