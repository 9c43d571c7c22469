// The stage of the product under way is let go of, and not that of the one before.
typedef unsigned long long u64;
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define INIT(bar, count) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(AT(bar)), "r"(count) : "memory")
#define INIT_FENCE() asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory")
#define EXPECT(bar, bytes) \
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(AT(bar)), "r"(bytes) : "memory")
#define ARRIVE(bar) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(AT(bar)) : "memory")
#define WAIT(bar, parity)                                                                                              \
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n\t"     \
                 "@!p bra again; }" ::"r"(AT(bar)), "r"(parity) : "memory")
struct alignas(64) Map { char bytes[128]; };
#define LOAD_BOX(to, map, x, y, bar)                                                                                    \
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" \
                 ::"r"(AT(to)), "l"(&map), "r"(x), "r"(y), "r"(AT(bar)) : "memory")
// Start, leading and stride byte offsets of a matrix whose rows of 128 bytes are swizzled, or are not swizzled.
#define SWIZZLED(p) ((u64)(AT(p) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62)
#define PLAIN(p, lead, stride) ((u64)(AT(p) >> 4) | (u64)((lead) >> 4) << 16 | (u64)((stride) >> 4) << 32)
#define FENCE_SUMS(d) asm volatile("" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])::"memory")
#define PRODUCT(d, a, b, adds)                                                                                       \
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %6, 0;\n\t"                                                         \
                 "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, p, 1, 1, 0, 0; }"    \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(a), "l"(b), "r"((int)(adds)))
#define FENCE_REGISTERS() asm volatile("wgmma.fence.sync.aligned;" ::: "memory")
#define COMMIT_PRODUCTS() asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory")
#define WAIT_PRODUCTS(n) asm volatile("wgmma.wait_group.sync.aligned " #n ";" ::: "memory")

constexpr int STAGES = 3;
extern "C" __global__ void pipeline(const __grid_constant__ Map a_map, const __grid_constant__ Map b_map, const unsigned short* a,
                                    const unsigned short* b, float* y, int steps) {
    // Rows of 64 elements of 16 bits, swizzled within 128 bytes: 64 rows of A and 8 of B in each stage.
    __shared__ __align__(1024) unsigned short a_tile[STAGES][64 * 64], b_tile[STAGES][8 * 64];
    __shared__ u64 full[STAGES], empty[STAGES];
    int t = threadIdx.x;
    if (t == 0) {
        for (int s = 0; s < STAGES; s++) {
            INIT(full + s, 1);
            INIT(empty + s, 1);
        }
        INIT_FENCE();
        asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncthreads();
    if (t >= 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (t > 128) return;
        for (int i = 0; i < steps; i++) {
            int s = i % STAGES;
            if (i >= STAGES) WAIT(empty + s, (i / STAGES - 1) & 1);
            EXPECT(full + s, (64 + 8) * 128);
            LOAD_BOX(a_tile[s], a_map, 64 * i, 0, full + s);  // BUG
            LOAD_BOX(b_tile[s], b_map, 64 * i, 0, full + s);  // BUG
        }
        return;
    }
    float d[4];
    for (int i = 0; i < steps; i++) {
        int s = i % STAGES;
        WAIT(full + s, i / STAGES & 1);
        FENCE_SUMS(d);
        FENCE_REGISTERS();
        for (int k = 0; k < 4; k++)
            PRODUCT(d, SWIZZLED(a_tile[s]) + 2 * k, SWIZZLED(b_tile[s]) + 2 * k, i + k > 0);  // BUG
        COMMIT_PRODUCTS();
        WAIT_PRODUCTS(1);
        FENCE_SUMS(d);
        if (t == 0) ARRIVE(empty + s);
    }
    WAIT_PRODUCTS(0);
    FENCE_SUMS(d);
    for (int i = 0; i < 4; i++) y[i * 128 + t] = d[i];
}
