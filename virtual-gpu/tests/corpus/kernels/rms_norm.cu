// y = x / sqrt(mean(x^2) + epsilon) * weight, bf16 in and out, f32 inside, one block a row.
// x, y (rows, dim), weight (dim,); dim a multiple of 8 (16-byte loads). Block: a multiple of 32, any length.

__device__ __forceinline__ float low_bf16(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

__device__ __forceinline__ float square_sum(unsigned pair) {
    const float low = low_bf16(pair), high = high_bf16(pair);
    return low * low + high * high;
}

__device__ __forceinline__ unsigned scaled(unsigned pair, unsigned weight, float scale) {
    return pack_bf16(low_bf16(pair) * scale * low_bf16(weight), high_bf16(pair) * scale * high_bf16(weight));
}

extern "C" __global__ void __launch_bounds__(256)
rms_norm(const uint4* __restrict__ x, const uint4* __restrict__ weight, uint4* __restrict__ y, unsigned dim,
         float epsilon) {
    __shared__ float warp_sums[8];
    const unsigned vectors = dim / 8, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x += (size_t)blockIdx.x * vectors;
    y += (size_t)blockIdx.x * vectors;

    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < vectors; i += blockDim.x) {
        const uint4 v = x[i];
        sum += square_sum(v.x) + square_sum(v.y) + square_sum(v.z) + square_sum(v.w);
    }
    sum = warp_sum(sum);
    if (lane == 0) warp_sums[warp] = sum;
    __syncthreads();
    sum = warp_sum(lane < blockDim.x / 32 ? warp_sums[lane] : 0.0f);
    const float scale = rsqrtf(sum / dim + epsilon);

    for (unsigned i = threadIdx.x; i < vectors; i += blockDim.x) {
        const uint4 v = x[i], w = weight[i];
        y[i] = {scaled(v.x, w.x, scale), scaled(v.y, w.y, scale), scaled(v.z, w.z, scale), scaled(v.w, w.w, scale)};
    }
}
