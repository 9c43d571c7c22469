// What an edge costs, on an idle device and while the ring streams at full rate.
#include "edge.cuh"
#include "ring.cuh"

KERNEL __launch_bounds__(256, 1) edge_idle(const EdgeArguments edge) { edges_run(edge, threadIdx.x, 1); }

struct LoadedArguments {
    RingArguments ring;
    EdgeArguments edge;
};

// Consumer warps, one producer warp, and eight warps that cross edges and then stop the ring. A ring that reached its
// `count` first would leave the last edges without load, so the host gives a count that it does not reach.
template <bool BULK> DEVICE void edge_loaded(const LoadedArguments& arguments) {
    extern __shared__ __align__(1024) unsigned char data[];
    __shared__ RingShared shared;
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    ring_init<BULK>(arguments.ring, shared);
    if (warp < CONSUMER_WARPS) {
        ring_consume(arguments.ring, shared, data, warp, lane);
    } else if (warp == CONSUMER_WARPS) {
        ring_produce<BULK>(arguments.ring, shared, data, 0, lane);
    } else {
        const u32 thread = threadIdx.x - 32 * (CONSUMER_WARPS + 1);
        edges_run(arguments.edge, thread, 1);
        if (thread == 0) store_flag(&shared.stop, 1);
    }
}

KERNEL __launch_bounds__(544, 1) edge_loaded_async(const LoadedArguments arguments) { edge_loaded<false>(arguments); }

#if __CUDA_ARCH__ >= 900
KERNEL __launch_bounds__(544, 1) edge_loaded_bulk(const LoadedArguments arguments) { edge_loaded<true>(arguments); }
#endif
