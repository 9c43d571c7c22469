// y = (x - mean) / sqrt(variance + epsilon) * weight + bias, f32, one block a row. Mean and variance by Welford's
// update, partial results merged by Chan's formula: no cancellation when the mean is large.
// x, y (rows, cols), weight, bias (cols,), any shape. Block: a multiple of 32.

struct Moments {
    float count, mean, m2; // m2: sum of squared distances from the mean
};

__device__ __forceinline__ Moments merge(Moments a, Moments b) {
    const float count = a.count + b.count;
    if (count == 0.0f) return a;
    const float share = b.count / count, delta = b.mean - a.mean;
    return {count, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.count * share};
}

__device__ __forceinline__ Moments warp_merge(Moments m) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        Moments other = {__shfl_xor_sync(0xffffffffu, m.count, offset), __shfl_xor_sync(0xffffffffu, m.mean, offset),
                         __shfl_xor_sync(0xffffffffu, m.m2, offset)};
        m = merge(m, other);
    }
    return m;
}

extern "C" __global__ void __launch_bounds__(256)
layer_norm(const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
           float* __restrict__ y, unsigned cols, float epsilon) {
    __shared__ Moments warps[8];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x += (size_t)blockIdx.x * cols;
    y += (size_t)blockIdx.x * cols;

    Moments m = {0.0f, 0.0f, 0.0f};
    for (unsigned c = threadIdx.x; c < cols; c += blockDim.x) {
        const float delta = x[c] - m.mean;
        m.count += 1.0f;
        m.mean += delta / m.count;
        m.m2 += delta * (x[c] - m.mean);
    }
    m = warp_merge(m);
    if (lane == 0) warps[warp] = m;
    __syncthreads();
    m = lane < blockDim.x / 32 ? warps[lane] : Moments{0.0f, 0.0f, 0.0f};
    m = warp_merge(m);

    // Lanes merge in different orders: all threads take lane 0's result, so that a row has one mean.
    const float mean = __shfl_sync(0xffffffffu, m.mean, 0);
    const float scale = rsqrtf(__shfl_sync(0xffffffffu, m.m2, 0) / cols + epsilon);
    for (unsigned c = threadIdx.x; c < cols; c += blockDim.x) y[c] = (x[c] - mean) * scale * weight[c] + bias[c];
}
