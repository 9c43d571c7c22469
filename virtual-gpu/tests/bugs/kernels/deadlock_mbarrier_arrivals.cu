// The mbarrier expects every thread, but only one lane per warp arrives.
extern "C" __global__ void per_warp_arrival(const int* x, int* out) {
    __shared__ int tile[128];
    __shared__ __align__(8) unsigned long long ready;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&ready);
    if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(blockDim.x) : "memory");
    __syncthreads();
    tile[t] = x[t];
    __syncwarp();
    if (t % 32 == 0) {
        asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(bar) : "memory");
    }
    unsigned done = 0;
    while (!done) {
        asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], 0; "  // BUG
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(bar) : "memory");
    }
    out[t] = tile[127 - t];
}
