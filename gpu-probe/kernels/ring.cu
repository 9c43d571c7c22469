// How fast the weight ring reads, and what a prefetch into L2 in an idle window buys.
#include "ring.cuh"

template <bool BULK> DEVICE void ring_run(const RingArguments& ring) {
    extern __shared__ __align__(1024) unsigned char data[];
    __shared__ RingShared shared;
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    ring_init<BULK>(ring, shared);
    if (warp < CONSUMER_WARPS) ring_consume(ring, shared, data, warp, lane);
    else ring_produce<BULK>(ring, shared, data, warp - CONSUMER_WARPS, lane);
}

// Copies by single threads of 16 bytes, for sm_80 and later.
KERNEL __launch_bounds__(384, 1) ring_async(const RingArguments ring) { ring_run<false>(ring); }

#if __CUDA_ARCH__ >= 900
// Bulk copies of whole stages.
KERNEL __launch_bounds__(384, 1) ring_bulk(const RingArguments ring) { ring_run<true>(ring); }
#endif

struct PrefetchArguments {
    u64 tape, block_bytes;
};

// Asks L2 for the bytes that the ring will read: each block for its own tape.
KERNEL __launch_bounds__(256) prefetch(const PrefetchArguments arguments) {
    const u64 from = arguments.tape + blockIdx.x * arguments.block_bytes;
#if __CUDA_ARCH__ >= 900
    for (u64 at = threadIdx.x * 4096ull; at < arguments.block_bytes; at += 256 * 4096)
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], 4096;" ::"l"(from + at) : "memory");
#else
    for (u64 at = threadIdx.x * 128ull; at < arguments.block_bytes; at += 256 * 128)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(from + at) : "memory");
#endif
}
