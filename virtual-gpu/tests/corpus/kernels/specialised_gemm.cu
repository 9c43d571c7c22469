// C = A B^T in bf16 with specialised warps (an architecture of the 9.0a, 10.0a or 12.0a family): one warpgroup gives
// its registers away and copies, two take them and multiply (mma m16n8k16).
// A (m, k), B (n, k) bf16, C (m, n) f32, row-major; m and n any, k a multiple of 64.
// Stages of 128 rows of A and 64 rows of B, 64 deep: one bulk copy a row, which leaves room for padding between
// rows, all counted by one mbarrier. A row past the end is a copy of the last one; its results are not stored.
// Grid: (ceil(n/64), ceil(m/128)). Block: 384. Dynamic shared memory: 3 * 27648 + 64 bytes.

typedef unsigned long long u64;
typedef unsigned short bf16;

constexpr int ROWS_A = 128, ROWS_B = 64, DEPTH = 64, STAGES = 3;
constexpr int PITCH = DEPTH + 8, STAGE = (ROWS_A + ROWS_B) * PITCH; // elements
constexpr int ROW_BYTES = DEPTH * 2, GROUP = 128;

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void barrier_init(u64* barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

__device__ __forceinline__ void barrier_expect(u64* barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

// Waits for the end of the phase of this parity.
__device__ __forceinline__ void barrier_wait(u64* barrier, unsigned parity) {
    asm volatile(
        "{ .reg .pred complete;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
        "@!complete bra again; }" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
}

__device__ __forceinline__ void copy_bulk(bf16* to, const bf16* from, unsigned bytes, u64* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
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

extern "C" __global__ void __launch_bounds__(3 * GROUP, 1)
specialised_gemm(const bf16* __restrict__ a, const bf16* __restrict__ b, float* __restrict__ c, int m, int n, int k) {
    extern __shared__ __align__(128) bf16 stages[];
    u64* full = reinterpret_cast<u64*>(stages + STAGES * STAGE);
    u64* empty = full + STAGES;
    const int group = threadIdx.x / GROUP, lane = threadIdx.x % 32;
    const int row0 = blockIdx.y * ROWS_A, col0 = blockIdx.x * ROWS_B, steps = k / DEPTH;

    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(&full[stage], 1);
            barrier_init(&empty[stage], 2 * GROUP / 32);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); // the copies see the initialised barriers
    }
    __syncthreads();

    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x >= 32) return;
        for (int step = 0; step < steps; step++) {
            const int stage = step % STAGES, round = step / STAGES;
            bf16* tile = stages + stage * STAGE;
            if (round > 0) barrier_wait(&empty[stage], (round - 1) & 1);
            if (lane == 0) barrier_expect(&full[stage], (ROWS_A + ROWS_B) * ROW_BYTES);
            __syncwarp(); // no byte may arrive before it is expected
            for (int row = lane; row < ROWS_A; row += 32) {
                const bf16* source = a + (size_t)min(row0 + row, m - 1) * k + step * DEPTH;
                copy_bulk(tile + row * PITCH, source, ROW_BYTES, &full[stage]);
            }
            for (int row = lane; row < ROWS_B; row += 32) {
                const bf16* source = b + (size_t)min(col0 + row, n - 1) * k + step * DEPTH;
                copy_bulk(tile + (ROWS_A + row) * PITCH, source, ROW_BYTES, &full[stage]);
            }
        }
        return;
    }

    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    const int warp_row = (threadIdx.x - GROUP) / 32 * 16;
    float sum[ROWS_B / 8][4] = {};
    for (int step = 0; step < steps; step++) {
        const int stage = step % STAGES, round = step / STAGES;
        const bf16 *a_tile = stages + stage * STAGE, *b_tile = a_tile + ROWS_A * PITCH;
        barrier_wait(&full[stage], round & 1);
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            unsigned af[4];
            load_matrices(af, a_tile + (warp_row + lane % 16) * PITCH + depth + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < ROWS_B / 8; j += 2) {
                unsigned bf[4];
                load_matrices(bf, b_tile + (j * 8 + lane % 8 + lane / 16 * 8) * PITCH + depth + lane / 8 % 2 * 8);
                multiply(sum[j], af, &bf[0]);
                multiply(sum[j + 1], af, &bf[2]);
            }
        }
        __syncwarp(); // one arrival stands for the whole warp
        if (lane == 0) barrier_arrive(&empty[stage]);
    }

#pragma unroll
    for (int j = 0; j < ROWS_B / 8; j++)
#pragma unroll
        for (int v = 0; v < 4; v++) {
            const int row = row0 + warp_row + lane / 4 + v / 2 * 8, col = col0 + j * 8 + lane % 4 * 2 + v % 2;
            if (row < m && col < n) c[(size_t)row * n + col] = sum[j][v];
        }
}
