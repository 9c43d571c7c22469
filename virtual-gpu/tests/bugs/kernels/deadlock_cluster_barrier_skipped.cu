// One block waits for the other at the barrier of the cluster, which waits for it at an mbarrier.
typedef unsigned long long u64;
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define RANK(r) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r))
#define MAP(to, at, rank) asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank))
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")
#define INIT(bar, count) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(AT(bar)), "r"(count) : "memory")
#define INIT_FENCE() asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory")
#define REMOTE_ARRIVE(at) \
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(at) : "memory")
#define WAIT(bar, parity)                                                                                              \
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n\t"     \
                 "@!p bra again; }" ::"r"(AT(bar)), "r"(parity) : "memory")

extern "C" __cluster_dims__(2, 1, 1) __global__ void cross(unsigned* y) {
    __shared__ u64 met;
    unsigned rank, at;
    RANK(rank);
    if (threadIdx.x == 0) {
        INIT(&met, 1);
        INIT_FENCE();
    }
    CLUSTER_SYNC();
    MAP(at, AT(&met), rank ^ 1);
    if (rank == 0) CLUSTER_SYNC();  // BUG
    if (rank == 1) WAIT(&met, 0);  // BUG
    if (rank == 0 && threadIdx.x == 0) REMOTE_ARRIVE(at);
    if (rank == 1) CLUSTER_SYNC();
    y[blockIdx.x] = rank;
}
