// The last arrival at the other block comes when that block may be gone: nobody waits for it.
typedef unsigned long long u64;
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define RANK(r) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r))
#define MAP(to, at, rank) asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank))
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")
#define INIT(bar, count) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(AT(bar)), "r"(count) : "memory")
#define INIT_FENCE() asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory")
#define EXPECT(bar, bytes) \
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(AT(bar)), "r"(bytes) : "memory")
#define REMOTE_ARRIVE(at) \
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(at) : "memory")
#define WAIT(bar, parity)                                                                                              \
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n\t"     \
                 "@!p bra again; }" ::"r"(AT(bar)), "r"(parity) : "memory")

extern "C" __cluster_dims__(2, 1, 1) __global__ void multicast(const unsigned* x, unsigned* y, int rounds) {
    __shared__ __align__(128) unsigned tile[2][64];
    __shared__ u64 full, empty;
    int t = threadIdx.x;
    unsigned rank, at;
    RANK(rank);
    if (t == 0) {
        INIT(&full, 1);
        INIT(&empty, 2);
        INIT_FENCE();
    }
    CLUSTER_SYNC();
    unsigned hash = 0;
    for (int i = 0; i < rounds; i++) {
        if (t == 0) {
            if (i > 0) WAIT(&empty, (i - 1) & 1);
            EXPECT(&full, 512);
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                         "[%0], [%1], 256, [%2], %3;"
                         ::"r"(AT(tile[rank])), "l"(x + (2 * i + rank) * 64), "r"(AT(&full)), "h"((unsigned short)3)
                         : "memory");
        }
        WAIT(&full, i & 1);
        hash = hash * 31 + (tile[0][t] ^ 3 * tile[1][t]);
        __syncthreads();
        if (t < 2) {
            MAP(at, AT(&empty), t);
            REMOTE_ARRIVE(at);  // BUG
        }
    }
    y[blockIdx.x * 64 + t] = hash;
}
