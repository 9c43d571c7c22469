// Symmetric int8 with one scale a row: scale = max|x| / 127, q = round(x / scale). One block a row.
// x (rows, cols) f32, q (rows, cols) i8, scales (rows,); cols a multiple of 4. A row of zeros gets scale 0.
// Block: a multiple of 32.

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

__device__ __forceinline__ unsigned quantized(float x, float inverse) {
    return (unsigned)__float2int_rn(x * inverse) & 0xffu;
}

extern "C" __global__ void __launch_bounds__(256)
quantize_rows(const float4* __restrict__ x, unsigned* __restrict__ q, float* __restrict__ scales, unsigned cols) {
    __shared__ float warps[8];
    const unsigned vectors = cols / 4, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x += (size_t)blockIdx.x * vectors;
    q += (size_t)blockIdx.x * vectors;

    float top = 0.0f;
    for (unsigned i = threadIdx.x; i < vectors; i += blockDim.x) {
        const float4 v = x[i];
        top = fmaxf(top, fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))));
    }
    top = warp_max(top);
    if (lane == 0) warps[warp] = top;
    __syncthreads();
    top = warp_max(lane < blockDim.x / 32 ? warps[lane] : 0.0f);

    const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
    for (unsigned i = threadIdx.x; i < vectors; i += blockDim.x) {
        const float4 v = x[i];
        q[i] = quantized(v.x, inverse) | quantized(v.y, inverse) << 8 | quantized(v.z, inverse) << 16 |
               quantized(v.w, inverse) << 24;
    }
    if (threadIdx.x == 0) scales[blockIdx.x] = top / 127.0f;
}
