// Y = X W^T with 4-bit weights and bf16 activations: nibbles become bf16 by one lop3 each, then tensor cores.
// X (m, k) bf16; W (n, k/32, 4) words of 8 nibbles, weight = nibble - 8; scales (n, k/32) bf16; Y (m, n) f32. k a
// multiple of 32, n a multiple of 8, m any.
// Word t of a group holds what lane t of a quad feeds to two mma steps: with i = 0..3, nibble i is the weight at
// k = 8i + 2t of the group and nibble i + 4 the one at 8i + 2t + 1. So weights go from global memory to fragments.
// A block does 16 rows and 64 columns; its rows of X lie in dynamic shared memory (16 * (k + 8) * 2 bytes).
// Grid: (ceil(n/64), ceil(m/16)). Block: 128.

typedef unsigned short bf16;

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Nibbles i and i + 4 of the word as two bf16 numbers minus 8: 0x43 above a nibble is 128 + nibble.
__device__ __forceinline__ unsigned decode(unsigned word, int i) {
    unsigned biased, weights;
    asm("lop3.b32 %0, %1, 0x000f000f, 0x43004300, 0xea;" : "=r"(biased) : "r"(word >> (4 * i)));
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(weights) : "r"(biased), "r"(0x3f803f80u), "r"(0xc308c308u));
    return weights;
}

__device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

extern "C" __global__ void __launch_bounds__(128)
w4a16(const bf16* __restrict__ x, const unsigned* __restrict__ w, const bf16* __restrict__ scales,
      float* __restrict__ y, int m, int n, int k) {
    extern __shared__ __align__(16) bf16 rows[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane / 4, t = lane % 4;
    const int row0 = blockIdx.y * 16, col0 = blockIdx.x * 64 + warp * 16;
    const int groups = k / 32, pitch = k + 8;

    for (int i = threadIdx.x; i < 16 * k / 8; i += 128) {
        const int row = i / (k / 8), col = i % (k / 8) * 8;
        const bool valid = row0 + row < m;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(rows + row * pitch + col)),
                     "l"(valid ? x + (size_t)(row0 + row) * k + col : x), "r"(valid ? 16 : 0)
                     : "memory");
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    if (col0 >= n) return;

    float sum[2][4] = {};
    for (int group = 0; group < groups; group++) {
        unsigned a[2][4];
#pragma unroll
        for (int step = 0; step < 2; step++)
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(a[step][0]), "=r"(a[step][1]), "=r"(a[step][2]), "=r"(a[step][3])
                         : "r"(shared_address(rows + lane % 16 * pitch + group * 32 + step * 16 + lane / 16 * 8))
                         : "memory");
#pragma unroll
        for (int tile = 0; tile < 2; tile++) {
            const int first = col0 + tile * 8;
            if (first >= n) break;
            const unsigned word = w[((size_t)(first + quad) * groups + group) * 4 + t];
            float part[4] = {};
            multiply(part, a[0], decode(word, 0), decode(word, 1));
            multiply(part, a[1], decode(word, 2), decode(word, 3));
#pragma unroll
            for (int v = 0; v < 4; v++) {
                const unsigned scale = scales[(size_t)(first + t * 2 + v % 2) * groups + group];
                sum[tile][v] += __uint_as_float(scale << 16) * part[v];
            }
        }
    }
#pragma unroll
    for (int tile = 0; tile < 2; tile++)
#pragma unroll
        for (int v = 0; v < 4; v++) {
            const int row = row0 + quad + v / 2 * 8, col = col0 + tile * 8 + t * 2 + v % 2;
            if (row < m && col < n) y[(size_t)row * n + col] = sum[tile][v];
        }
}
