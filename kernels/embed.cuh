// residual = the token's row of the embedding table, and its view. A block gathers the channels of its own tiles.
#pragma once
#include "formats.cuh"
#include "math.cuh"
#include "residual.cuh"
#include "ring.cuh"
#include "view.cuh"

// `channel(token, k)` is an element of the table. By all consumers.
template <typename Channel>
DEVICE void embed_channels(const Program& program, const Shared& shared, const Channel& channel) {
    const EmbedPhase& phase = shared.phase.embed;
    const View view = {phase.view, phase.view_weight, phase.view_stats, phase.tiles, shared.call.row_tiles};
    begin_residual(program, view, phase.columns, shared.call.rows,
                   [&](u32 row, u32 k) { return channel(shared.call.tokens[row], k); });
}

// From a table of 16-bit rows.
DEVICE void embed_rows(const Program& program, const Shared& shared) {
    const EmbedPhase& phase = shared.phase.embed;
    embed_channels(program, shared, [&](u32 token, u32 k) {
        const u32 pair = load_constant(program.arena + phase.table + (u64)token * phase.table_stride + k / 2 * 4);
        const u32 bits = k % 2 ? pair >> 16 : pair;
        return phase.is_f16 ? f16_low(bits) : bf16_low(bits);
    });
}

// From a table in tiles of format F, those that a linear op reads or tiles of its own.
template <typename F> DEVICE void embed_tiles(const Program& program, const Shared& shared) {
    const EmbedPhase& phase = shared.phase.embed;
    const u32 padded = divide_up(phase.columns, SLICE) * SLICE;
    const u32 full_chunks = padded / CHUNK, tail = padded % CHUNK;
    const u32 full_bytes = block_bytes<F>(CHUNK), tail_bytes = tail ? block_bytes<F>(tail) : 0;
    embed_channels(program, shared, [&](u32 token, u32 k) {
        // Block i of S has the tiles from i T / S on, rounded down: the last block that begins at or before the tile.
        const u32 tile = token / TILE_ROWS;
        const u32 owner = (u32)((((u64)tile + 1) * gridDim.x - 1) / phase.table_tiles);
        const u64 span = program.spans + ((u64)owner * program.span_count + phase.span) * sizeof(Span);
        const uint4 words = load_constant_vector(span);
        const u64 offset = (u64)words.y << 32 | words.x;
        const u32 tiles = words.w & ~SPAN_ARRIVES, local = tile - words.z;
        const u32 chunk = k / CHUNK;
        u32 first = local / TILE_GROUP * TILE_GROUP;
#pragma unroll 1
        while (local >= first + group_of(tiles - first)) first += group_of(tiles - first);
        const u32 tile_bytes = full_chunks * full_bytes + tail_bytes;
        const bool full = chunk < full_chunks;
        const u64 block = program.arena + offset + (u64)first * tile_bytes +
                          (u64)chunk * group_of(tiles - first) * full_bytes +
                          (u64)(local - first) * (full ? full_bytes : tail_bytes);
        const float value = read_element<F>(block, full ? CHUNK : tail, token % TILE_ROWS, k % CHUNK);
        return times_power_of_two(value, phase.exponent);
    });
}
