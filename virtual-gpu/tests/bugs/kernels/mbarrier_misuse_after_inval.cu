// The barrier is invalidated while warp 1 has still to arrive.
extern "C" __global__ void late_arrival(const int* x, int* out) {
    __shared__ __align__(8) unsigned long long ready;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&ready);
    if (t == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], 2;" ::"r"(bar) : "memory");
        asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(bar) : "memory");
        asm volatile("mbarrier.inval.shared.b64 [%0];" ::"r"(bar) : "memory");
    }
    __syncthreads();
    if (t == 32) {
        asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }"  // BUG
                     ::"r"(bar) : "memory");
    }
    out[t] = x[t];
}
