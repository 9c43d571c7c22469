// C = A B^T on tensor cores, signed bytes in, exact 32-bit sums (mma m16n8k32).
// A (m, k), B (n, k) i8, C (m, n) i32, row-major; m and n any, k a multiple of 16 (16-byte rows of copies).
// Tiles of 64x64 with 64 bytes of k pass through a ring of 3 stages filled by cp.async; 2x2 warps of 32x32.
// Grid: (ceil(n/64), ceil(m/64)). Block: 128.

constexpr int TILE = 64, STAGES = 3;
constexpr int ROW_BYTES = 64;              // of k in one stage
constexpr int PITCH = ROW_BYTES + 16;      // 80 bytes: the 8 rows of an ldmatrix fall into different banks
constexpr int STEP_BYTES = 32;             // of k in one mma
constexpr int TILE_BYTES = TILE * PITCH;

__device__ __forceinline__ void copy16_async(unsigned to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

__device__ __forceinline__ void load_matrices(unsigned (&r)[4], unsigned from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

__device__ __forceinline__ void multiply(int (&c)[4], const unsigned (&a)[4], const unsigned* b) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// One stage's tile of 64 rows; rows past the end and bytes past k become zeros.
__device__ __forceinline__ void load_tile(unsigned to, const char* from, int row0, int rows, int offset,
                                          int row_bytes) {
#pragma unroll
    for (int i = threadIdx.x; i < TILE * ROW_BYTES / 16; i += 128) {
        const int row = i / (ROW_BYTES / 16), byte = i % (ROW_BYTES / 16) * 16;
        const bool valid = row0 + row < rows && offset + byte < row_bytes;
        const char* source = valid ? from + (size_t)(row0 + row) * row_bytes + offset + byte : from;
        copy16_async(to + row * PITCH + byte, source, valid);
    }
}

extern "C" __global__ void __launch_bounds__(128)
gemm_int8(const char* __restrict__ a, const char* __restrict__ b, int* __restrict__ c, int m, int n, int k) {
    __shared__ __align__(128) char stages[STAGES][2][TILE_BYTES];
    const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(&stages[0][0][0]));
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    const int warp_row = warp / 2 * 32, warp_col = warp % 2 * 32;
    const int row_bytes = k, steps = (row_bytes + ROW_BYTES - 1) / ROW_BYTES;

    auto fetch = [&](int step) {
        if (step < steps) {
            const unsigned stage = shared + step % STAGES * 2 * TILE_BYTES;
            load_tile(stage, a, row0, m, step * ROW_BYTES, row_bytes);
            load_tile(stage + TILE_BYTES, b, col0, n, step * ROW_BYTES, row_bytes);
        }
        // A group even when empty, so that the number of groups in flight stays the same at the end.
        asm volatile("cp.async.commit_group;" ::: "memory");
    };

    // Matrices of an ldmatrix in the order of the fragments: A by rows then k, B by k then columns.
    const unsigned a_lane = (warp_row + lane % 16) * PITCH + lane / 16 * 16;
    const unsigned b_lane = TILE_BYTES + (warp_col + lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 16;

    int sum[2][4][4] = {};
    for (int step = 0; step < STAGES - 1; step++) fetch(step);
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads();
        fetch(step + STAGES - 1); // into the stage that every warp left before the barrier
        const unsigned stage = shared + step % STAGES * 2 * TILE_BYTES;
#pragma unroll
        for (int part = 0; part < ROW_BYTES; part += STEP_BYTES) {
            unsigned af[2][4], bf[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_matrices(af[i], stage + a_lane + i * 16 * PITCH + part);
                load_matrices(bf[i], stage + b_lane + i * 16 * PITCH + part);
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
            for (int v = 0; v < 4; v++) {
                const int row = row0 + warp_row + i * 16 + lane / 4 + v / 2 * 8;
                const int col = col0 + warp_col + j * 8 + lane % 4 * 2 + v % 2;
                if (row < m && col < n) c[(size_t)row * n + col] = sum[i][j][v];
            }
}
