// A block waits at the barrier of its cluster without having arrived at it.
#define RANK(r) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r))

extern "C" __cluster_dims__(2, 1, 1) __global__ void late(const unsigned* x, unsigned* y) {
    __shared__ unsigned own[64];
    int t = threadIdx.x;
    unsigned rank;
    RANK(rank);
    own[t] = x[blockIdx.x * 64 + t];
    if (rank == 0) asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");  // BUG
    y[blockIdx.x * 64 + t] = own[t];
}
