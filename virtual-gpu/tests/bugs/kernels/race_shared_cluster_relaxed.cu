// A relaxed arrival at the barrier of the cluster orders nothing that came before it.
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define RANK(r) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r))
#define MAP(to, at, rank) asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank))
#define READ(to, at) asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(to) : "r"(at) : "memory")
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")

extern "C" __cluster_dims__(2, 1, 1) __global__ void cluster_swap(const unsigned* x, unsigned* y) {
    __shared__ unsigned own[64];
    int t = threadIdx.x;
    own[t] = x[blockIdx.x * 64 + t];  // BUG
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    unsigned rank, at, word;
    RANK(rank);
    MAP(at, AT(own + t), rank ^ 1);
    READ(word, at);  // BUG
    CLUSTER_SYNC();
    y[blockIdx.x * 64 + t] = word;
}
