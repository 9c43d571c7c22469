// A ring of 3 stages between one producer warp and three consumer warps: cp.async fills a stage, named barriers hand
// it over. Barrier 1 + s says that stage s is full, 4 + s that it is empty; the side that waits uses bar.sync, the
// other side bar.arrive and goes on.
// x (gridDim.x, tiles, 96, 4) words; out (gridDim.x, 96): each consumer thread folds its 4 words of every tile, in
// order, as h = rotl(h, 5) ^ (x0 + x1 + x2 + x3). Block: 128.

constexpr int STAGES = 3, CONSUMERS = 96, THREADS = 128;

__device__ __forceinline__ void barrier_sync(int id) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(THREADS) : "memory");
}

__device__ __forceinline__ void barrier_arrive(int id) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(THREADS) : "memory");
}

__device__ __forceinline__ int full(int tile) { return 1 + tile % STAGES; }
__device__ __forceinline__ int empty(int tile) { return 1 + STAGES + tile % STAGES; }

extern "C" __global__ void __launch_bounds__(THREADS)
named_ring(const uint4* __restrict__ x, unsigned* __restrict__ out, int tiles) {
    __shared__ uint4 ring[STAGES][CONSUMERS];
    x += (size_t)blockIdx.x * tiles * CONSUMERS;

    if (threadIdx.x >= CONSUMERS) {
        const int lane = threadIdx.x - CONSUMERS;
        for (int tile = 0; tile < tiles; tile++) {
            if (tile >= STAGES) barrier_sync(empty(tile));
#pragma unroll
            for (int i = lane; i < CONSUMERS; i += 32) {
                const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(&ring[tile % STAGES][i]));
                const uint4* from = x + (size_t)tile * CONSUMERS + i;
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
            }
            asm volatile("cp.async.commit_group;" ::: "memory");
            // One copy stays in flight while the tile before it is handed over.
            if (tile > 0) {
                asm volatile("cp.async.wait_group 1;" ::: "memory");
                barrier_arrive(full(tile - 1));
            }
        }
        asm volatile("cp.async.wait_group 0;" ::: "memory");
        barrier_arrive(full(tiles - 1));
    } else {
        unsigned hash = 0;
        for (int tile = 0; tile < tiles; tile++) {
            barrier_sync(full(tile));
            const uint4 words = ring[tile % STAGES][threadIdx.x];
            hash = __funnelshift_l(hash, hash, 5) ^ (words.x + words.y + words.z + words.w);
            // Nobody waits for the last stages to become empty.
            if (tile + STAGES < tiles) barrier_arrive(empty(tile));
        }
        out[blockIdx.x * CONSUMERS + threadIdx.x] = hash;
    }
}
