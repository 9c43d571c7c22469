// Sum of n floats in one launch: every block leaves a partial sum, and the block that takes the last ticket adds
// them.
// The order of the additions is fixed, so the bits do not depend on which block is last.
// x (n,), partial (gridDim.x,) scratch, ticket (1,) zero at the start and at the end, out (1,). Block: 256.

constexpr unsigned THREADS = 256;

// Called twice: a real call keeps the code small.
__device__ __noinline__ float block_sum(float value, float* warp_sums) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    __syncthreads(); // the previous sum has been read
    if (lane == 0) warp_sums[warp] = value;
    __syncthreads();
    value = 0.0f;
#pragma unroll
    for (unsigned w = 0; w < THREADS / 32; w++) value += warp_sums[w];
    return value;
}

extern "C" __global__ void __launch_bounds__(THREADS)
last_block_reduce(const float* __restrict__ x, float* partial, unsigned* ticket, float* out, unsigned n) {
    __shared__ float warp_sums[THREADS / 32];
    __shared__ bool last;

    float sum = 0.0f;
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) sum += x[i];
    sum = block_sum(sum, warp_sums);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence(); // the partial sum is visible before the ticket is taken
        last = atomicAdd(ticket, 1) == gridDim.x - 1;
        __threadfence(); // and the others' sums after it
    }
    __syncthreads();
    if (!last) return;

    sum = 0.0f;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += THREADS) sum += partial[i];
    sum = block_sum(sum, warp_sums);
    if (threadIdx.x == 0) {
        *out = sum;
        *ticket = 0;
    }
}
