// Counts of byte values: shared atomics within a block, then one global atomic per non-empty bin.
// x (n,) bytes, counts (256,) zero at the start. Any n: whole words first, the last bytes by the last block.

constexpr unsigned BINS = 256;

extern "C" __global__ void __launch_bounds__(256)
histogram(const unsigned char* __restrict__ x, unsigned* __restrict__ counts, unsigned n) {
    __shared__ unsigned local[BINS];
    for (unsigned bin = threadIdx.x; bin < BINS; bin += blockDim.x) local[bin] = 0;
    __syncthreads();

    const unsigned words = n / 4;
    const unsigned* packed = reinterpret_cast<const unsigned*>(x);
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < words; i += gridDim.x * blockDim.x) {
        const unsigned word = packed[i];
#pragma unroll
        for (int byte = 0; byte < 4; byte++) atomicAdd(&local[word >> (8 * byte) & 0xff], 1u);
    }
    if (blockIdx.x == gridDim.x - 1 && threadIdx.x < n % 4) atomicAdd(&local[x[4 * words + threadIdx.x]], 1u);
    __syncthreads();

    for (unsigned bin = threadIdx.x; bin < BINS; bin += blockDim.x)
        if (local[bin] > 0) atomicAdd(&counts[bin], local[bin]);
}
