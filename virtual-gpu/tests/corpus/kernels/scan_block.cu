// Inclusive prefix sum of u32 within segments of 4 * blockDim.x elements, one segment per block.
// x (n,), y (n,), any n; sums wrap. Block: a multiple of 32.

__device__ __forceinline__ unsigned warp_inclusive_scan(unsigned value, unsigned lane) {
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
        unsigned below = __shfl_up_sync(0xffffffffu, value, offset);
        if (lane >= offset) value += below;
    }
    return value;
}

extern "C" __global__ void __launch_bounds__(1024)
scan_block(const unsigned* __restrict__ x, unsigned* __restrict__ y, unsigned n) {
    __shared__ unsigned warp_totals[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const unsigned first = 4 * (blockIdx.x * blockDim.x + threadIdx.x);

    unsigned item[4];
    if (first + 4 <= n) {
        uint4 packed = *reinterpret_cast<const uint4*>(x + first);
        item[0] = packed.x, item[1] = packed.y, item[2] = packed.z, item[3] = packed.w;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) item[i] = first + i < n ? x[first + i] : 0;
    }
#pragma unroll
    for (int i = 1; i < 4; i++) item[i] += item[i - 1];

    const unsigned inclusive = warp_inclusive_scan(item[3], lane);
    if (lane == 31) warp_totals[warp] = inclusive;
    __syncthreads();
    if (warp == 0) {
        unsigned total = warp_inclusive_scan(lane < warps ? warp_totals[lane] : 0, lane);
        if (lane < warps) warp_totals[lane] = total;
    }
    __syncthreads();

    const unsigned before = inclusive - item[3] + (warp > 0 ? warp_totals[warp - 1] : 0);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (first + i < n) y[first + i] = before + item[i];
}
