// The index counts through the whole cluster, where each block holds its own part.
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define MAP(to, at, rank) asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank))
#define READ(to, at) asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(to) : "r"(at) : "memory")
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")

extern "C" __cluster_dims__(4, 1, 1) __global__ void cluster_gather(const unsigned* x, unsigned* y) {
    __shared__ unsigned own[64];
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    own[t] = x[i];
    CLUSTER_SYNC();
    unsigned at, word;
    MAP(at, AT(own + (255 - i)), (255 - i) / 64);
    READ(word, at);  // BUG
    CLUSTER_SYNC();
    y[i] = word;
}
