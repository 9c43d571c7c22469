// The residual: a block keeps in shared memory, in f32, the rows of its own tiles, [local tile][row of the call
// ROW_CAPACITY][16 channels]. A segment may begin one several times, one after the other. Block i of S owns tiles i T / S to (i + 1) T / S of T, rounded down; so
// does it of the output of every op that adds to the residual or begins it.
#pragma once
#include "program.cuh"
#include "sync.cuh"

// First of the block's tiles, for block `block` of the grid; for the next one the end of them.
DEVICE u32 first_owned(u32 tiles, u32 block) { return (u32)((u64)block * tiles / gridDim.x); }

// Of one row: 16 channels of a local tile.
DEVICE float* residual_row(u32 local, u32 row) {
    return (float*)shared_region(RESIDUAL_AT) + (local * ROW_CAPACITY + row) * TILE_ROWS;
}

DEVICE bool owns_residual(u32 tiles) { return first_owned(tiles, blockIdx.x) < first_owned(tiles, blockIdx.x + 1); }

// Keeps the output rows only: row j becomes what row outputs[j] is. By all consumers.
DEVICE void narrow_residual(const Shared& shared) {
    const u32 tiles = shared.phase.narrow.tiles;
    const u32 count = first_owned(tiles, blockIdx.x + 1) - first_owned(tiles, blockIdx.x);
    // Orders what other threads wrote of the residual before the reads here.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    // One thread moves a channel, from row to row: outputs ascend, so that outputs[j] >= j is not overwritten yet.
    for (u32 at = threadIdx.x; at < count * TILE_ROWS; at += CONSUMER_THREADS)
#pragma unroll 1
        for (u32 j = 0; j < shared.call.output_rows; j++)
            residual_row(at / TILE_ROWS, j)[at % TILE_ROWS] =
                residual_row(at / TILE_ROWS, shared.call.outputs[j])[at % TILE_ROWS];
    // Orders these writes before what other threads read next.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}
