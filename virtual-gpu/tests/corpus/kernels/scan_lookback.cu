// Inclusive prefix sum of u32 over the whole device in one pass: each tile publishes its own sum, then looks back
// over its predecessors until it meets one that knows its whole prefix.
// x (n,), y (n,); state (tiles,) and ticket (1,) zero at the start. A tile is blockDim.x elements. Tiles are handed
// out by a ticket, so that every predecessor of a running tile has started, whatever the order of the blocks.
// Block: a multiple of 32.

typedef unsigned long long u64;

enum : unsigned { EMPTY = 0, AGGREGATE = 1, PREFIX = 2 };

__device__ __forceinline__ void publish(u64* state, unsigned flag, unsigned value) {
    u64 word = (u64)flag << 32 | value;
    asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(state), "l"(word) : "memory");
}

__device__ __forceinline__ u64 observe(const u64* state) {
    u64 word;
    asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(state) : "memory");
    return word;
}

__device__ __forceinline__ unsigned warp_inclusive_scan(unsigned value, unsigned lane) {
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
        unsigned below = __shfl_up_sync(0xffffffffu, value, offset);
        if (lane >= offset) value += below;
    }
    return value;
}

__device__ __forceinline__ unsigned warp_sum(unsigned value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

// The sum of all tiles before `tile`, by one whole warp, 32 predecessors at a time.
__device__ unsigned look_back(const u64* state, int tile, int lane) {
    unsigned before = 0;
    for (int nearest = tile - 1;; nearest -= 32) {
        const int predecessor = nearest - lane;
        u64 word;
        do {
            word = predecessor >= 0 ? observe(state + predecessor) : (u64)PREFIX << 32;
        } while (__any_sync(0xffffffffu, (word >> 32) == EMPTY));
        const unsigned complete = __ballot_sync(0xffffffffu, (word >> 32) == PREFIX);
        const int last = complete ? __ffs(complete) - 1 : 31;
        before += warp_sum(lane <= last ? (unsigned)word : 0);
        if (complete) return before;
    }
}

extern "C" __global__ void __launch_bounds__(512)
scan_lookback(const unsigned* __restrict__ x, unsigned* __restrict__ y, u64* state, unsigned* ticket, unsigned n) {
    __shared__ unsigned warp_totals[16];
    __shared__ unsigned tile_shared, before_shared;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;

    if (threadIdx.x == 0) tile_shared = atomicAdd(ticket, 1);
    __syncthreads();
    const unsigned tile = tile_shared;
    const unsigned i = tile * blockDim.x + threadIdx.x;

    const unsigned inclusive = warp_inclusive_scan(i < n ? x[i] : 0, lane);
    if (lane == 31) warp_totals[warp] = inclusive;
    __syncthreads();
    if (warp == 0) {
        const unsigned totals = warp_inclusive_scan(lane < warps ? warp_totals[lane] : 0, lane);
        const unsigned sum = __shfl_sync(0xffffffffu, totals, warps - 1);
        if (lane == 0) publish(state + tile, tile == 0 ? PREFIX : AGGREGATE, sum);
        const unsigned before = tile == 0 ? 0 : look_back(state, tile, lane);
        if (lane == 0) {
            if (tile > 0) publish(state + tile, PREFIX, before + sum);
            before_shared = before;
        }
        if (lane < warps) warp_totals[lane] = totals;
    }
    __syncthreads();
    if (i < n) y[i] = before_shared + inclusive + (warp > 0 ? warp_totals[warp - 1] : 0);
}
