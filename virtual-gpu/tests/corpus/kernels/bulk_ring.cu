// A ring of 4 stages between one producer thread and three consumer warps (compute_90 and later): 1-D bulk copies
// fill a stage, an mbarrier that counts their bytes says that it is full, another that all consumer warps left it.
// x (gridDim.x, tiles, 96, 4) words; out (gridDim.x, 96): each consumer thread folds its 4 words of every tile, in
// order, as h = rotl(h, 5) ^ (x0 + x1 + x2 + x3). Block: 128.

typedef unsigned long long u64;

constexpr int STAGES = 4, CONSUMERS = 96, TILE_BYTES = CONSUMERS * 16;

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void barrier_init(u64* barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

__device__ __forceinline__ void barrier_expect(u64* barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

// Waits for the end of the phase of this parity.
__device__ __forceinline__ void barrier_wait(u64* barrier, unsigned parity) {
    unsigned done;
    do {
        asm volatile(
            "{ .reg .pred complete;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
            "selp.u32 %0, 1, 0, complete; }"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
    } while (!done);
}

__device__ __forceinline__ void copy_bulk(void* to, const void* from, unsigned bytes, u64* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

extern "C" __global__ void __launch_bounds__(128)
bulk_ring(const uint4* __restrict__ x, unsigned* __restrict__ out, int tiles) {
    __shared__ __align__(128) uint4 ring[STAGES][CONSUMERS];
    __shared__ u64 full[STAGES], empty[STAGES];
    x += (size_t)blockIdx.x * tiles * CONSUMERS;

    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(&full[stage], 1);
            barrier_init(&empty[stage], CONSUMERS / 32);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); // the copies see the initialised barriers
    }
    __syncthreads();

    if (threadIdx.x >= CONSUMERS) {
        if (threadIdx.x > CONSUMERS) return;
        for (int tile = 0; tile < tiles; tile++) {
            const int stage = tile % STAGES, round = tile / STAGES;
            if (round > 0) barrier_wait(&empty[stage], (round - 1) & 1);
            barrier_expect(&full[stage], TILE_BYTES);
            copy_bulk(ring[stage], x + (size_t)tile * CONSUMERS, TILE_BYTES, &full[stage]);
        }
    } else {
        unsigned hash = 0;
        for (int tile = 0; tile < tiles; tile++) {
            const int stage = tile % STAGES, round = tile / STAGES;
            barrier_wait(&full[stage], round & 1);
            const uint4 words = ring[stage][threadIdx.x];
            hash = __funnelshift_l(hash, hash, 5) ^ (words.x + words.y + words.z + words.w);
            __syncwarp(); // one arrival stands for the whole warp
            if (threadIdx.x % 32 == 0) barrier_arrive(&empty[stage]);
        }
        out[blockIdx.x * CONSUMERS + threadIdx.x] = hash;
    }
}
