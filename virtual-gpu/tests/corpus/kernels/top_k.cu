// The 8 largest values of each row and their indices, largest first, lower index first among equals. One block a row.
// x (rows, cols), values, indices (rows, 8); cols at least 8. Block: a multiple of 32 up to 256.
// Each thread keeps its best 8 sorted in registers; a warp takes its lanes' heads 8 times; warp 0 does so for the
// warps.

typedef unsigned long long u64;

constexpr int K = 8;

__device__ __forceinline__ unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float unordered(unsigned code) {
    return __uint_as_float(code & 0x80000000u ? code & 0x7fffffffu : ~code);
}

struct Best {
    u64 item[K]; // descending; 0 is empty

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < K; i++) item[i] = 0;
    }

    __device__ __forceinline__ void insert(u64 candidate) {
        if (candidate <= item[K - 1]) return;
#pragma unroll
        for (int i = 0; i < K; i++) {
            const u64 larger = candidate > item[i] ? candidate : item[i];
            candidate = candidate > item[i] ? item[i] : candidate;
            item[i] = larger;
        }
    }

    // Takes the largest head of the warp off its lane; every lane gets it.
    __device__ __forceinline__ u64 warp_pop() {
        u64 top = item[0];
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) {
            const u64 other = __shfl_xor_sync(0xffffffffu, top, offset);
            top = other > top ? other : top;
        }
        if (top == item[0]) {
#pragma unroll
            for (int i = 0; i < K - 1; i++) item[i] = item[i + 1];
            item[K - 1] = 0;
        }
        return top;
    }
};

extern "C" __global__ void __launch_bounds__(256)
top_k(const float* __restrict__ x, float* __restrict__ values, int* __restrict__ indices, unsigned cols) {
    __shared__ u64 candidates[8 * K];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x += (size_t)blockIdx.x * cols;

    Best best;
    best.clear();
    for (unsigned c = threadIdx.x; c < cols; c += blockDim.x) best.insert((u64)ordered(x[c]) << 32 | ~c);
#pragma unroll 1
    for (int i = 0; i < K; i++) {
        const u64 top = best.warp_pop();
        if (lane == 0) candidates[warp * K + i] = top;
    }
    __syncthreads();
    if (warp > 0) return;

    best.clear();
    for (unsigned i = lane; i < warps * K; i += 32) best.insert(candidates[i]);
#pragma unroll 1
    for (int i = 0; i < K; i++) {
        const u64 top = best.warp_pop();
        if (lane == 0) {
            values[blockIdx.x * K + i] = unordered(top >> 32);
            indices[blockIdx.x * K + i] = ~(unsigned)top;
        }
    }
}
