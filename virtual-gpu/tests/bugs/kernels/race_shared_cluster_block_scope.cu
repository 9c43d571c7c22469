// Blocks count in the shared memory of one of them, with atomics that only its own threads see as such.
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define RANK(r) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r))
#define MAP(to, at, rank) asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank))
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")

extern "C" __cluster_dims__(2, 1, 1) __global__ void cluster_count(unsigned* y) {
    __shared__ unsigned count;
    unsigned rank, at;
    RANK(rank);
    if (threadIdx.x == 0) count = 0;
    CLUSTER_SYNC();
    MAP(at, AT(&count), 0);
    asm volatile("red.relaxed.cta.shared::cluster.add.u32 [%0], 1;" ::"r"(at) : "memory");  // BUG
    CLUSTER_SYNC();
    if (rank == 0 && threadIdx.x == 0) y[blockIdx.x] = count;
}
