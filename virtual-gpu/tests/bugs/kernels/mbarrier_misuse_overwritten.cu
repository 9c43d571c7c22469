// The last word of the tile lies where the barrier has been carved out of dynamic shared memory.
extern "C" __global__ void carved(const int* x, int* out) {
    extern __shared__ __align__(16) int memory[];
    int t = threadIdx.x;
    int* tile = memory;
    unsigned bar = (unsigned)__cvta_generic_to_shared(memory + 30);
    if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(bar) : "memory");
    __syncwarp();
    tile[t] = x[t];  // BUG
    __syncwarp();
    if (t == 0) asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }"  // BUG
                             ::"r"(bar) : "memory");
    out[t] = tile[31 - t];
}
