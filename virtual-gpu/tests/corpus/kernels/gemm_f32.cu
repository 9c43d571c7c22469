// C = A B in f32, 64x64 tiles through shared memory, 4x4 results a thread.
// A (m, k), B (k, n), C (m, n), row-major, any shape. Grid: (ceil(n/64), ceil(m/64)). Block: 256.

constexpr int TILE = 64, DEPTH = 16, PER_THREAD = 4;

extern "C" __global__ void __launch_bounds__(256)
gemm_f32(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m, int n, int k) {
    // A's tile is stored transposed: the threads of a warp then read it as a broadcast along m.
    __shared__ __align__(16) float a_tile[DEPTH][TILE + 4];
    __shared__ __align__(16) float b_tile[DEPTH][TILE];
    const int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    const int thread_row = threadIdx.x / 16 * PER_THREAD, thread_col = threadIdx.x % 16 * PER_THREAD;

    float sum[PER_THREAD][PER_THREAD] = {};
    for (int k0 = 0; k0 < k; k0 += DEPTH) {
#pragma unroll
        for (int i = threadIdx.x; i < TILE * DEPTH; i += 256) {
            const int row = i / DEPTH, depth = i % DEPTH;
            a_tile[depth][row] = row0 + row < m && k0 + depth < k ? a[(size_t)(row0 + row) * k + k0 + depth] : 0.0f;
        }
#pragma unroll
        for (int i = threadIdx.x; i < TILE * DEPTH; i += 256) {
            const int depth = i / TILE, col = i % TILE;
            b_tile[depth][col] = k0 + depth < k && col0 + col < n ? b[(size_t)(k0 + depth) * n + col0 + col] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth++) {
            const float4 x = *reinterpret_cast<const float4*>(&a_tile[depth][thread_row]);
            const float4 y = *reinterpret_cast<const float4*>(&b_tile[depth][thread_col]);
            const float rows[] = {x.x, x.y, x.z, x.w}, cols[] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int i = 0; i < PER_THREAD; i++)
#pragma unroll
                for (int j = 0; j < PER_THREAD; j++) sum[i][j] += rows[i] * cols[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++)
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) {
            const int row = row0 + thread_row + i, col = col0 + thread_col + j;
            if (row < m && col < n) c[(size_t)row * n + col] = sum[i][j];
        }
}
