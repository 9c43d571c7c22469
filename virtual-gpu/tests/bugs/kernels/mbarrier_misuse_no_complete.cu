// arrive.noComplete must leave the phase open, here it brings the last two arrivals.
extern "C" __global__ void counted_arrival(const int* x, int* out) {
    __shared__ int tile[64];
    __shared__ __align__(8) unsigned long long ready;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&ready);
    if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], 2;" ::"r"(bar) : "memory");
    tile[t] = x[t];
    __syncthreads();
    if (t == 0) asm volatile("{ .reg .b64 state; mbarrier.arrive.noComplete.shared.b64 state, [%0], "  // BUG
                             "2; }"
                             ::"r"(bar) : "memory");
    __syncthreads();
    out[t] = tile[63 - t];
}
