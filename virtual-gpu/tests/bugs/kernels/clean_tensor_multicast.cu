// Each block of a cluster fetches half of a tile by a tensor map, for both; whoever has waited has all of it.
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
struct alignas(64) Map { char bytes[128]; };

extern "C" __cluster_dims__(2, 1, 1) __global__ void halves(const __grid_constant__ Map map, const unsigned* x, unsigned* y) {
    __shared__ __align__(128) unsigned tile[2][64];
    __shared__ u64 full;
    int t = threadIdx.x;
    unsigned rank;
    RANK(rank);
    if (t == 0) {
        INIT(&full, 1);
        INIT_FENCE();
        EXPECT(&full, 512);
    }
    CLUSTER_SYNC();
    if (t == 0) {
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                     "[%0], [%1, {%2, %3}], [%4], %5;"
                     ::"r"(AT(tile[rank])), "l"(&map), "r"(0), "r"(blockIdx.x / 2 * 8 + rank * 4), "r"(AT(&full)),
                       "h"((unsigned short)3) : "memory");
    }
    WAIT(&full, 0);
    y[blockIdx.x * 64 + t] = tile[0][t] + tile[1][t];
}
