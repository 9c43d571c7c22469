// Lane 0 arrives for 64 threads at a barrier that expects 32.
extern "C" __global__ void bulk_arrival(const int* x, int* out) {
    __shared__ int tile[32];
    __shared__ __align__(8) unsigned long long ready;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&ready);
    if (t == 0) asm volatile("mbarrier.init.shared::cta.b64 [%0], 32;" ::"r"(bar) : "memory");
    __syncwarp();
    tile[t] = x[t];
    __syncwarp();
    if (t == 0) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], 64;" ::"r"(bar) : "memory");  // BUG
    unsigned done = 0;
    while (!done) {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; "
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(bar) : "memory");
    }
    out[t] = tile[31 - t];
}
