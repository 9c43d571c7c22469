// y = W x: the block's 4 warps split each row's columns among them, 16 bytes of W a load.
// W (rows, cols) bf16, x (cols,) bf16, y (rows,) f32; cols a multiple of 8. A block does 4 rows.
// Grid: (ceil(rows/4)). Block: 128.

constexpr unsigned ROWS = 4, WARPS = 4;

__device__ __forceinline__ float low_bf16(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ __forceinline__ float dot(unsigned w, unsigned x, float sum) {
    return fmaf(high_bf16(w), high_bf16(x), fmaf(low_bf16(w), low_bf16(x), sum));
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

extern "C" __global__ void __launch_bounds__(WARPS * 32)
gemv_bf16(const uint4* __restrict__ w, const uint4* __restrict__ x, float* __restrict__ y, unsigned rows,
          unsigned cols) {
    __shared__ float parts[WARPS][ROWS];
    const unsigned vectors = cols / 8, row0 = blockIdx.x * ROWS;

    float sum[ROWS] = {};
    for (unsigned i = threadIdx.x; i < vectors; i += WARPS * 32) {
        const uint4 activation = x[i];
#pragma unroll
        for (unsigned r = 0; r < ROWS; r++) {
            if (row0 + r >= rows) break;
            const uint4 weight = w[(size_t)(row0 + r) * vectors + i];
            sum[r] = dot(weight.x, activation.x, sum[r]);
            sum[r] = dot(weight.y, activation.y, sum[r]);
            sum[r] = dot(weight.z, activation.z, sum[r]);
            sum[r] = dot(weight.w, activation.w, sum[r]);
        }
    }
#pragma unroll
    for (unsigned r = 0; r < ROWS; r++) {
        sum[r] = warp_sum(sum[r]);
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32][r] = sum[r];
    }
    __syncthreads();
    if (threadIdx.x < ROWS && row0 + threadIdx.x < rows) {
        float total = 0.0f;
#pragma unroll
        for (unsigned part = 0; part < WARPS; part++) total += parts[part][threadIdx.x];
        y[row0 + threadIdx.x] = total;
    }
}
