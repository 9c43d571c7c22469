// C = A B on tensor cores, bf16 in and out, f32 sums (mma m16n8k16).
// A (m, k), B (k, n), C (m, n) bf16, row-major; m any, k and n multiples of 8 (16-byte copies). B is read by columns
// out of row-major tiles with ldmatrix.trans. Tiles of 64x64x32 pass through a ring of 4 stages in dynamic shared
// memory, filled by cp.async; 2x2 warps of 32x32.
// Grid: (ceil(n/64), ceil(m/64)). Block: 128. Dynamic shared memory: 4 * 9728 bytes.

typedef unsigned short bf16;

constexpr int TILE = 64, DEPTH = 32, STAGES = 4;
constexpr int A_PITCH = DEPTH + 8, B_PITCH = TILE + 8; // elements; the 8 rows of an ldmatrix fall into different banks
constexpr int A_TILE = TILE * A_PITCH, B_TILE = DEPTH * B_PITCH;

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void copy16_async(bf16* to, const bf16* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void load_rows(unsigned (&r)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(from))
                 : "memory");
}

__device__ __forceinline__ void load_columns(unsigned (&r)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(from))
                 : "memory");
}

__device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], const unsigned* b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

extern "C" __global__ void __launch_bounds__(128)
gemm_bf16(const bf16* __restrict__ a, const bf16* __restrict__ b, bf16* __restrict__ c, int m, int n, int k) {
    extern __shared__ __align__(128) bf16 stages[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    const int warp_row = warp / 2 * 32, warp_col = warp % 2 * 32;
    const int steps = (k + DEPTH - 1) / DEPTH;

    auto fetch = [&](int step) {
        if (step < steps) {
            bf16* a_tile = stages + step % STAGES * (A_TILE + B_TILE);
            bf16* b_tile = a_tile + A_TILE;
            const int k0 = step * DEPTH;
#pragma unroll
            for (int i = threadIdx.x; i < TILE * DEPTH / 8; i += 128) {
                const int row = i / (DEPTH / 8), depth = i % (DEPTH / 8) * 8;
                const bool valid = row0 + row < m && k0 + depth < k;
                const bf16* source = valid ? a + (size_t)(row0 + row) * k + k0 + depth : a;
                copy16_async(a_tile + row * A_PITCH + depth, source, valid);
            }
#pragma unroll
            for (int i = threadIdx.x; i < DEPTH * TILE / 8; i += 128) {
                const int depth = i / (TILE / 8), col = i % (TILE / 8) * 8;
                const bool valid = k0 + depth < k && col0 + col < n;
                const bf16* source = valid ? b + (size_t)(k0 + depth) * n + col0 + col : b;
                copy16_async(b_tile + depth * B_PITCH + col, source, valid);
            }
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };

    float sum[2][4][4] = {};
    for (int step = 0; step < STAGES - 1; step++) fetch(step);
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads();
        fetch(step + STAGES - 1);
        const bf16* a_tile = stages + step % STAGES * (A_TILE + B_TILE);
        const bf16* b_tile = a_tile + A_TILE;
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            unsigned af[2][4], bf[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_rows(af[i], a_tile + (warp_row + i * 16 + lane % 16) * A_PITCH + depth + lane / 16 * 8);
                load_columns(bf[i], b_tile + (depth + lane % 16) * B_PITCH + warp_col + i * 16 + lane / 16 * 8);
            }
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) multiply(sum[i][j], af[i], &bf[j / 2][j % 2 * 2]);
        }
    }

#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = row0 + warp_row + i * 16 + lane / 4 + half * 8;
                const int col = col0 + warp_col + j * 8 + lane % 4 * 2;
                if (row < m && col < n)
                    *reinterpret_cast<unsigned*>(c + (size_t)row * n + col) =
                        pack_bf16(sum[i][j][half * 2], sum[i][j][half * 2 + 1]);
            }
}
