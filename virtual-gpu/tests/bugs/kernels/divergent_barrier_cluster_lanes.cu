// Lanes without work do not come to the barrier that all of their warp must execute.
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")

extern "C" __cluster_dims__(2, 1, 1) __global__ void some(const unsigned* x, unsigned* y, int n) {
    __shared__ unsigned own[64];
    int t = threadIdx.x;
    if (t >= n) return;
    own[t] = x[blockIdx.x * 64 + t];
    CLUSTER_SYNC();  // BUG
    y[blockIdx.x * 64 + t] = own[t];
}
