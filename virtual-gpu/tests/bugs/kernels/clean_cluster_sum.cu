// Blocks of a cluster add up what all of them hold, and stay until all have read.
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define MAP(to, at, rank) asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank))
#define READ(to, at) asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(to) : "r"(at) : "memory")
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")

extern "C" __cluster_dims__(4, 1, 1) __global__ void cluster_sum(const unsigned* x, unsigned* y) {
    __shared__ unsigned own[64];
    int t = threadIdx.x;
    own[t] = x[blockIdx.x * 64 + t];
    CLUSTER_SYNC();
    unsigned sum = 0;
    for (unsigned rank = 0; rank < 4; rank++) {
        unsigned at, word;
        MAP(at, AT(own + t), rank);
        READ(word, at);
        sum += word;
    }
    CLUSTER_SYNC();
    y[blockIdx.x * 64 + t] = sum;
}
