// Rows of a call that came true move to where their positions are. The rows of a tree lie in the cache in the order of the call,
// from the first position after what is committed; those of a path through it become the positions from there on.
#pragma once
#include "program.cuh"

// A path: row `rows[j]` becomes position start + j. It ascends, so that rows[j] >= j.
struct Path {
    u32 start;
    u32 count;
    u8 rows[ROW_LIMIT];
};

// Moves the rows of a path of `count` rows that becomes the positions from `start` on. By `threads` threads, of which this is number
// `thread`. Each moves 16 bytes of a head of K or V from row to row, in the order of the path: what it reads later lies behind all
// that it has written.
DEVICE void move_rows(const KvPool& pool, u32 start, u32 count, const u8* rows, u32 thread, u32 threads) {
    const u32 pieces = pool.row_bytes / 16;
#pragma unroll 1
    for (u32 piece = thread; piece < pool.planes * pieces; piece += threads) {
        const u64 plane = (u64)(piece / pieces) * KV_PAGE * pool.row_bytes + piece % pieces * 16;
        const auto address = [&](u32 position) {
            const u64 page = load_l2_long(pool.table + (u64)(position / KV_PAGE) * 8);
            return page + plane + (u64)(position % KV_PAGE) * pool.row_bytes;
        };
#pragma unroll 1
        for (u32 j = 0; j < count; j++)
            if (rows[j] != j) *(uint4*)address(start + j) = load_l2_vector(address(start + rows[j]));
    }
}

struct Commit {
    KvPool pool;
    Path path;
};

// For the host, between calls. Grid: any.
KERNEL __launch_bounds__(THREADS) commit(const __grid_constant__ Commit given) {
    const Path& path = given.path;
    move_rows(given.pool, path.start, path.count, path.rows, blockIdx.x * THREADS + threadIdx.x, gridDim.x * THREADS);
}

// By all consumers of every block, before the call: what came true of the target's last one.
DEVICE void move_accepted(const Program& program, const Shared& shared) {
    const Call& call = shared.call;
    if (call.moved == 0) return;
    move_rows(program.kv[0], call.length - call.moved, call.moved, call.path, blockIdx.x * THREADS + threadIdx.x,
              gridDim.x * THREADS);
}
