// Stable ascending sort of (u32 key, u32 value) pairs within segments of 2048, one segment a block: 8 passes of a
// 4-bit least-significant-digit radix sort in shared memory.
// keys_in, values_in, keys_out, values_out (n,), any n: the last segment is padded with the largest key. Block: 256.
// In a pass a warp owns 256 consecutive pairs, 32 at a time; lanes with the same digit find each other by match_any.

constexpr unsigned SEGMENT = 2048, THREADS = 256, WARPS = THREADS / 32, PER_WARP = SEGMENT / WARPS, DIGITS = 16;

// The lanes of the warp before this one, as a mask.
__device__ __forceinline__ unsigned lanes_below() {
    unsigned mask;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(mask));
    return mask;
}

extern "C" __global__ void __launch_bounds__(THREADS)
radix_sort(const unsigned* __restrict__ keys_in, const unsigned* __restrict__ values_in,
           unsigned* __restrict__ keys_out, unsigned* __restrict__ values_out, unsigned n) {
    __shared__ uint2 pairs[2][SEGMENT];
    __shared__ __align__(16) unsigned offsets[DIGITS][WARPS]; // in the order of the output: by digit, then by warp
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * SEGMENT;

    for (unsigned i = threadIdx.x; i < SEGMENT; i += THREADS)
        pairs[0][i] = first + i < n ? uint2{keys_in[first + i], values_in[first + i]} : uint2{0xffffffffu, 0};

    for (unsigned pass = 0; pass < 8; pass++) {
        const uint2* from = pairs[pass % 2];
        uint2* to = pairs[1 - pass % 2];
        if (threadIdx.x < DIGITS * WARPS) (&offsets[0][0])[threadIdx.x] = 0;
        __syncthreads();

        for (unsigned i = warp * PER_WARP + lane; i < (warp + 1) * PER_WARP; i += 32) {
            const unsigned digit = from[i].x >> (4 * pass) & (DIGITS - 1);
            const unsigned peers = __match_any_sync(0xffffffffu, digit);
            if ((peers & lanes_below()) == 0) offsets[digit][warp] += __popc(peers);
            __syncwarp();
        }
        __syncthreads();

        if (warp == 0) { // exclusive scan of the 128 counts, 4 a lane
            uint4* mine = reinterpret_cast<uint4*>(&offsets[0][0]) + lane;
            const uint4 count = *mine;
            const unsigned sum = count.x + count.y + count.z + count.w;
            unsigned inclusive = sum;
#pragma unroll
            for (int offset = 1; offset < 32; offset *= 2) {
                const unsigned below = __shfl_up_sync(0xffffffffu, inclusive, offset);
                if (lane >= offset) inclusive += below;
            }
            const unsigned before = inclusive - sum;
            *mine = {before, before + count.x, before + count.x + count.y, before + count.x + count.y + count.z};
        }
        __syncthreads();

        for (unsigned i = warp * PER_WARP + lane; i < (warp + 1) * PER_WARP; i += 32) {
            const uint2 pair = from[i];
            const unsigned digit = pair.x >> (4 * pass) & (DIGITS - 1);
            const unsigned peers = __match_any_sync(0xffffffffu, digit), before = peers & lanes_below();
            to[offsets[digit][warp] + __popc(before)] = pair;
            __syncwarp(); // all peers have read the offset
            if (before == 0) offsets[digit][warp] += __popc(peers);
            __syncwarp();
        }
        __syncthreads();
    }

    for (unsigned i = threadIdx.x; i < SEGMENT && first + i < n; i += THREADS) {
        keys_out[first + i] = pairs[0][i].x;
        values_out[first + i] = pairs[0][i].y;
    }
}
