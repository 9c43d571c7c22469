// A block that does not want the tile leaves before what the other fetches for both has come.
typedef unsigned long long u64;
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define RANK(r) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r))
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")
#define INIT(bar, count) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(AT(bar)), "r"(count) : "memory")
#define INIT_FENCE() asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory")
#define EXPECT(bar, bytes) \
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(AT(bar)), "r"(bytes) : "memory")
#define WAIT(bar, parity)                                                                                              \
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n\t"     \
                 "@!p bra again; }" ::"r"(AT(bar)), "r"(parity) : "memory")

extern "C" __cluster_dims__(2, 1, 1) __global__ void fetch_for_both(const unsigned* x, unsigned* y) {
    __shared__ __align__(128) unsigned tile[64];
    __shared__ u64 full;
    unsigned rank;
    RANK(rank);
    if (threadIdx.x == 0) {
        INIT(&full, 1);
        INIT_FENCE();
        EXPECT(&full, 256);
    }
    CLUSTER_SYNC();
    if (rank == 1) return;
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "  // BUG
                     "[%0], [%1], 256, [%2], %3;"
                     ::"r"(AT(tile)), "l"(x), "r"(AT(&full)), "h"((unsigned short)3) : "memory");
    }
    WAIT(&full, 0);
    y[threadIdx.x] = tile[threadIdx.x];
}
