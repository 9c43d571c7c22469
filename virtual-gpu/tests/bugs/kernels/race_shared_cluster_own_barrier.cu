// The barrier of the block does not order what other blocks of the cluster do.
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define RANK(r) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r))
#define MAP(to, at, rank) asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank))
#define READ(to, at) asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(to) : "r"(at) : "memory")
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")

extern "C" __cluster_dims__(4, 1, 1) __global__ void cluster_next(const unsigned* x, unsigned* y) {
    __shared__ unsigned own[64];
    int t = threadIdx.x;
    own[t] = 0;
    CLUSTER_SYNC();
    own[t] = x[blockIdx.x * 64 + t];  // BUG
    __syncthreads();
    unsigned rank, at, word;
    RANK(rank);
    MAP(at, AT(own + t), (rank + 1) % 4);
    READ(word, at);  // BUG
    CLUSTER_SYNC();
    y[blockIdx.x * 64 + t] = word;
}
