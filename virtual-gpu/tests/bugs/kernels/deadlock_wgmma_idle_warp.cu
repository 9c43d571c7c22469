// A warp without rows of its own leaves the others alone with the product, which needs all four.
typedef unsigned long long u64;
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define PROXY_FENCE() asm volatile("fence.proxy.async.shared::cta;" ::: "memory")
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

extern "C" __global__ void product(const unsigned* x, float* y) {
    // 64 rows of A, then 8 of B, of 32 bytes each: two chunks of 16 bytes, those of 8 rows side by side.
    __shared__ __align__(1024) uint4 a[128], b[16];
    int t = threadIdx.x;
    a[t] = make_uint4(x[t], x[t + 128], x[t + 256], x[t + 384]);
    if (t < 16) b[t] = make_uint4(x[t], x[t + 16], x[t + 32], x[t + 48]);
    PROXY_FENCE();
    __syncthreads();
    float d[4] = {0, 0, 0, 0};
    if (t >= 96) return;
    FENCE_SUMS(d);
    FENCE_REGISTERS();
    PRODUCT(d, PLAIN(a, 128, 256), PLAIN(b, 128, 256), 1);
    COMMIT_PRODUCTS();
    WAIT_PRODUCTS(0);  // BUG
    FENCE_SUMS(d);
    for (int i = 0; i < 4; i++) y[i * 128 + t] = d[i];
}
