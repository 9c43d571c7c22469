// Rows that cross blocks whole: hidden states that one segment hands to another, embeddings and projections that are joined
// before a product. They lie in f32, [row][columns]; a product reads what a copy makes of them, bf16 in B order. What is copied
// of a row depends on that row alone, to the bit.
#pragma once
#include "norm.cuh"
#include "residual.cuh"
#include "view.cuh"

// Columns that the threads of a block copy at once, four each.
#define COPY_COLUMNS (4 * CONSUMER_THREADS)

// Rows that the phase writes.
DEVICE u32 copied_rows(const Shared& shared) {
    return shared.phase.flags & FLAG_OUTPUT_ROWS ? shared.call.output_rows : shared.call.rows;
}

// Row tiles of what it writes in B order.
DEVICE u32 copied_tiles(const Shared& shared) {
    return shared.phase.flags & FLAG_OUTPUT_ROWS ? shared.call.output_tiles : shared.call.row_tiles;
}

// Whether the rows that it writes are some of those that it reads.
DEVICE bool is_gathered(const Shared& shared) {
    return (shared.phase.flags & (FLAG_OUTPUT_ROWS | FLAG_NARROWED)) == FLAG_OUTPUT_ROWS;
}

// Row of the source that row j of the copy is.
DEVICE u32 source_row(const Shared& shared, u32 j) {
    const u32 row = is_gathered(shared) ? shared.call.outputs[j] : j;
    return shared.phase.flags & FLAG_SOURCES ? shared.call.sources[row] : row;
}

// First column copied of row j of the copy.
DEVICE u64 source_address(const Program& program, const Shared& shared, u32 j) {
    const CopyPhase& phase = shared.phase.copy;
    const u64 element = (u64)source_row(shared, j) * phase.from_columns + phase.from_column;
    return program.workspace + phase.from + element * 4;
}

// Writes two columns of row j, the first of them even.
DEVICE void write_columns(const Program& program, const Shared& shared, u32 j, u32 column, float low, float high) {
    const CopyPhase& phase = shared.phase.copy;
    const u64 to = program.workspace + phase.to;
    column += phase.to_column;
    if (phase.in_order) {
        store_word(to + b_order(column, j, copied_tiles(shared)), pack_bf16(low, high));
    } else {
        const u64 at = to + ((u64)j * phase.to_columns + column) * 4;
        store_float(at, low);
        store_float(at + 4, high);
    }
}

// Zeros behind the last column of `rows` rows from `first` on, if the copy has it. By all consumers.
DEVICE void pad_columns(const Program& program, const Shared& shared, u32 first, u32 rows) {
    const CopyPhase& phase = shared.phase.copy;
    const u32 end = phase.to_columns;
    if (!phase.in_order || phase.to_column + phase.columns != end) return;
    const u32 pairs = (divide_up(end, SLICE) * SLICE - end) / 2;
    for (u32 at = threadIdx.x; at < pairs * rows; at += CONSUMER_THREADS)
        store_word(program.workspace + phase.to + b_order(end + at % pairs * 2, first + at / pairs, copied_tiles(shared)), 0);
}

// 1 / sqrt(mean square + eps) of the columns at `from`, to all threads. By all consumers, who add up in an order that depends on
// the number of columns alone.
DEVICE float copied_scale(Shared& shared, u64 from) {
    const CopyPhase& phase = shared.phase.copy;
    float sum = 0.0f;
    for (u32 column = threadIdx.x * 4; column < phase.columns; column += COPY_COLUMNS) {
        const uint4 four = load_l2_vector(from + column * 4);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float value = float_of(word_of(four, i));
            sum = __fadd_rn(sum, __fmul_rn(value, value));
        }
    }
#pragma unroll
    for (u32 distance = 16; distance > 0; distance /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
    // Orders the reads of the sums of the row before, and then these before they are read.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x % 32 == 0) shared.words[threadIdx.x / 32] = bits_of(sum);
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    sum = 0.0f;
#pragma unroll
    for (u32 warp = 0; warp < CONSUMER_WARPS; warp++) sum = __fadd_rn(sum, float_of(shared.words[warp]));
    const float mean = __fadd_rn(__fmul_rn(sum, phase.inverse_n), phase.eps);
    return __fdiv_rn(1.0f, __fsqrt_rn(mean));
}

// A value under the norm.
DEVICE float copied_value(const Program& program, const CopyPhase& phase, float value, float scale, u32 column) {
    if (phase.norm == NONE) return value;
    return __fmul_rn(__fmul_rn(value, scale), load_constant_float(program.constants + phase.norm + column * 4));
}

// From the residual to a buffer: each block the channels of its tiles. By all consumers.
DEVICE void export_residual(const Program& program, Shared& shared) {
    const CopyPhase& phase = shared.phase.copy;
    const u32 first = first_owned(phase.tiles, blockIdx.x);
    const u32 count = first_owned(phase.tiles, blockIdx.x + 1) - first, rows = copied_rows(shared);
    if (count == 0) return;
    const bool gathered = is_gathered(shared);
    if (phase.norm != NONE)
        norm_scales(program, shared, {phase.stats, phase.tiles, phase.eps, phase.inverse_n}, rows, gathered);
    // Orders what other threads wrote of the residual, and the scales, before the reads here.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const u32 pairs = count * TILE_ROWS / 2;
    for (u32 at = threadIdx.x; at < pairs * rows; at += CONSUMER_THREADS) {
        const u32 channel = at % pairs * 2, j = at / pairs, column = first * TILE_ROWS + channel;
        if (column >= phase.columns) continue;
        const float* const from =
            residual_row(channel / TILE_ROWS, gathered ? shared.call.outputs[j] : j) + channel % TILE_ROWS;
        const float scale = phase.norm == NONE ? 1.0f : shared.row_scales[j];
        const float low = copied_value(program, phase, from[0], scale, column);
        const float high = copied_value(program, phase, from[1], scale, column + 1);
        write_columns(program, shared, j, column, low, high);
    }
    if (first + count == phase.tiles) pad_columns(program, shared, 0, rows);
    // Orders these reads before what other threads write next.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}

// From a buffer to the residual: each block the channels of its tiles. By all consumers.
DEVICE void import_residual(const Program& program, Shared& shared) {
    const CopyPhase& phase = shared.phase.copy;
    if (!owns_residual(phase.tiles)) return;
    const u32 rows = copied_rows(shared);
    if (phase.norm != NONE)
        for (u32 row = 0; row < rows; row++) {
            const float scale = copied_scale(shared, source_address(program, shared, row));
            if (threadIdx.x == 0) shared.row_scales[row] = scale;
        }
    // begin_residual has a barrier between the scales and their use.
    const View view = {phase.view, phase.view_weight, phase.view_stats, phase.tiles, copied_tiles(shared)};
    begin_residual(program, view, phase.columns, rows, [&](u32 row, u32 k) {
        const float value = load_l2_float(source_address(program, shared, row) + k * 4);
        return copied_value(program, phase, value, phase.norm == NONE ? 1.0f : shared.row_scales[row], k);
    });
}

// From buffer to buffer: pieces of rows are dealt to the blocks. By all consumers.
DEVICE void copy_rows(const Program& program, Shared& shared) {
    const CopyPhase& phase = shared.phase.copy;
    const u32 pieces = divide_up(phase.columns, COPY_COLUMNS), rows = copied_rows(shared);
    for (u32 piece = blockIdx.x; piece < pieces * rows; piece += gridDim.x) {
        const u32 j = piece / pieces, column = piece % pieces * COPY_COLUMNS + threadIdx.x * 4;
        const u64 from = source_address(program, shared, j);
        const float scale = phase.norm == NONE ? 1.0f : copied_scale(shared, from);
        if (column < phase.columns) {
            const uint4 four = load_l2_vector(from + column * 4);
            float values[4];
#pragma unroll
            for (u32 i = 0; i < 4; i++)
                values[i] = copied_value(program, phase, float_of(word_of(four, i)), scale, column + i);
            write_columns(program, shared, j, column, values[0], values[1]);
            write_columns(program, shared, j, column + 2, values[2], values[3]);
        }
        if (piece % pieces == pieces - 1) pad_columns(program, shared, j, 1);
    }
}
