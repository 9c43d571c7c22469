// Counter-based random words: out[i] is word i % 4 of Philox block i / 4 under the given key.
// out (n,) u32, any n. Any grid and block.

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

extern "C" __global__ void __launch_bounds__(256)
philox_fill(unsigned* __restrict__ out, u64 seed, u64 stream, u64 n) {
    const u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 block = (u64)blockIdx.x * blockDim.x + threadIdx.x; 4 * block < n; block += stride) {
        const uint4 counter = {(unsigned)block, (unsigned)(block >> 32), (unsigned)stream, (unsigned)(stream >> 32)};
        const uint4 word = philox(counter, {(unsigned)seed, (unsigned)(seed >> 32)});
        if (4 * block + 4 <= n) {
            reinterpret_cast<uint4*>(out)[block] = word;
        } else {
            out[4 * block] = word.x;
            if (4 * block + 1 < n) out[4 * block + 1] = word.y;
            if (4 * block + 2 < n) out[4 * block + 2] = word.z;
        }
    }
}
