// Samples each row from softmax(logits / temperature) by the Gumbel trick: the largest of logit / temperature +
// noise, noise = -log(-log(u)), u from Philox at counter (column / 4, row, step). One block a row.
// logits (rows, cols), token (rows,). Block: a multiple of 32 up to 256.

typedef unsigned long long u64;

// Philox 4x32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3").
__device__ __forceinline__ uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned high0 = __umulhi(0xd2511f53u, counter.x), low0 = 0xd2511f53u * counter.x;
        const unsigned high1 = __umulhi(0xcd9e8d57u, counter.z), low1 = 0xcd9e8d57u * counter.z;
        counter = {high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0};
        key.x += 0x9e3779b9u;
        key.y += 0xbb67ae85u;
    }
    return counter;
}

__device__ __forceinline__ unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Uniform strictly between 0 and 1: 23 bits and a half, so that both logarithms are finite.
__device__ __forceinline__ float gumbel(unsigned word) {
    const float u = ((word >> 9) + 0.5f) * 0x1p-23f;
    return -logf(-logf(u));
}

__device__ __forceinline__ u64 warp_max(u64 value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        const u64 other = __shfl_xor_sync(0xffffffffu, value, offset);
        value = other > value ? other : value;
    }
    return value;
}

extern "C" __global__ void __launch_bounds__(256)
gumbel_argmax(const float* __restrict__ logits, int* __restrict__ token, unsigned cols, float inverse_temperature,
              unsigned step, u64 seed) {
    __shared__ u64 warps[8];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    logits += (size_t)blockIdx.x * cols;

    u64 best = 0;
    for (unsigned quad = threadIdx.x; 4 * quad < cols; quad += blockDim.x) {
        const uint4 word = philox({quad, blockIdx.x, step, 0}, {(unsigned)seed, (unsigned)(seed >> 32)});
        const unsigned words[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            const unsigned c = 4 * quad + i;
            if (c >= cols) break;
            const float value = fmaf(logits[c], inverse_temperature, gumbel(words[i]));
            const u64 code = (u64)ordered(value) << 32 | ~c;
            best = code > best ? code : best;
        }
    }
    best = warp_max(best);
    if (lane == 0) warps[warp] = best;
    __syncthreads();
    if (warp == 0) {
        best = warp_max(lane < blockDim.x / 32 ? warps[lane] : 0);
        if (lane == 0) token[blockIdx.x] = ~(unsigned)best;
    }
}
