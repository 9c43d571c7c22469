// Two block reductions through the same scratch words, without a barrier between the last read and the next write.
__device__ __forceinline__ float warp_sum(float v) {
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

extern "C" __global__ void mean_and_spread(const float* x, float* out) {
    __shared__ float scratch[4];
    int lane = threadIdx.x & 31;
    int warp = threadIdx.x >> 5;
    float v = x[threadIdx.x];
    float part = warp_sum(v);
    if (lane == 0) scratch[warp] = part;
    __syncthreads();
    float mean = (scratch[0] + scratch[1] + scratch[2] + scratch[3]) * (1.0f / 128.0f);  // BUG
    float square = warp_sum((v - mean) * (v - mean));
    if (lane == 0) {
        scratch[warp] = square;  // BUG
    }
    __syncthreads();
    float spread = scratch[0] + scratch[1] + scratch[2] + scratch[3];
    if (threadIdx.x == 0) {
        out[0] = mean;
        out[1] = spread;
    }
}
