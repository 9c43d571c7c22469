// Index of each row's largest value by atomicMax on one 64-bit word: the value in an order-preserving code above, the
// complement of the index below, so that the lowest index wins a tie. Several blocks share a row.
// x (rows, cols), best (rows,) zero at the start: code << 32 | ~index. Grid: (any, rows). Block: a multiple of 32.

typedef unsigned long long u64;

__device__ __forceinline__ unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

extern "C" __global__ void __launch_bounds__(256)
argmax_atomic(const float* __restrict__ x, u64* __restrict__ best, unsigned cols) {
    x += (size_t)blockIdx.y * cols;
    u64 top = 0;
    for (unsigned c = blockIdx.x * blockDim.x + threadIdx.x; c < cols; c += gridDim.x * blockDim.x) {
        const u64 word = (u64)ordered(x[c]) << 32 | ~c;
        top = word > top ? word : top;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        const u64 other = __shfl_xor_sync(0xffffffffu, top, offset);
        top = other > top ? other : top;
    }
    if (threadIdx.x % 32 == 0 && top > 0) atomicMax(best + blockIdx.y, top);
}
