// Softmax of each row, one warp a row: maximum and sum of exponentials in a single pass, a second pass writes.
// x, y (rows, cols), any shape. Block: a multiple of 32, one row per warp.

struct Running {
    float max, sum; // sum of exp(x - max)
};

__device__ __forceinline__ Running merge(Running a, Running b) {
    const float top = fmaxf(a.max, b.max);
    return {top, a.sum * __expf(a.max - top) + b.sum * __expf(b.max - top)};
}

extern "C" __global__ void __launch_bounds__(128)
softmax_online(const float* __restrict__ x, float* __restrict__ y, unsigned rows, unsigned cols) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    x += (size_t)row * cols;
    y += (size_t)row * cols;

    // Finite, so that merging two empty states gives no NaN.
    Running state = {-3.0e38f, 0.0f};
    for (unsigned c = lane; c < cols; c += 32) state = merge(state, {x[c], 1.0f});
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        Running other = {__shfl_xor_sync(0xffffffffu, state.max, offset),
                         __shfl_xor_sync(0xffffffffu, state.sum, offset)};
        state = merge(state, other);
    }

    const float inverse = 1.0f / state.sum;
    for (unsigned c = lane; c < cols; c += 32) y[c] = __expf(x[c] - state.max) * inverse;
}
