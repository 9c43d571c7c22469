// The arrival of the prologue comes before the initialisation.
extern "C" __global__ void early_arrival(const int* x, int* out) {
    __shared__ int tile[32];
    __shared__ __align__(8) unsigned long long ready;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&ready);
    tile[t] = x[t];
    if (t == 0) {
        asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }"  // BUG
                     ::"r"(bar) : "memory");
        asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(bar) : "memory");
    }
    __syncwarp();
    out[t] = tile[31 - t];
}
