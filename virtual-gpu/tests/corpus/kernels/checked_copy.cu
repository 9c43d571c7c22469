// Copies words and counts the odd ones, with a device assertion on the index and one line of printf a block.
// x, y (n,) u32, odd (gridDim.x,). Block: a multiple of 32 up to 1024.

extern "C" __device__ int printf(const char* format, ...);
extern "C" __device__ void __assertfail(const char* condition, const char* file, unsigned line, const char* function,
                                        size_t char_size);

__device__ __forceinline__ void check(bool condition, const char* text, unsigned line) {
    if (!condition) __assertfail(text, "checked_copy.cu", line, "checked_copy", 1);
}

extern "C" __global__ void __launch_bounds__(1024)
checked_copy(const unsigned* __restrict__ x, unsigned* __restrict__ y, unsigned* __restrict__ odd, unsigned n) {
    const unsigned per_block = (n + gridDim.x - 1) / gridDim.x, first = blockIdx.x * per_block;
    const unsigned end = min(first + per_block, n);

    unsigned count = 0;
    for (unsigned base = first; base < end; base += blockDim.x) {
        const unsigned i = base + threadIdx.x;
        const bool inside = i < end;
        if (inside) {
            check(i < n, "i < n", __LINE__);
            y[i] = x[i];
        }
        count += __syncthreads_count(inside && x[i] % 2 == 1);
    }
    if (threadIdx.x == 0) {
        odd[blockIdx.x] = count;
        printf("block %u: %u of %u odd\n", blockIdx.x, count, end > first ? end - first : 0);
    }
}
