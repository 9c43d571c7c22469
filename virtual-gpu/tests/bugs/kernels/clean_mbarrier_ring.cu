// Warp 0 fills a ring of two slots, warp 1 empties it; full and empty barriers alternate in parity.
__device__ __forceinline__ void wait(unsigned bar, unsigned parity) {
    unsigned done = 0;
    while (!done) {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(bar), "r"(parity) : "memory");
    }
}

extern "C" __global__ void ring(const int* x, int* out, int steps) {
    __shared__ int slots[2][32];
    __shared__ __align__(8) unsigned long long full[2], empty[2];
    int lane = threadIdx.x & 31;
    if (threadIdx.x == 0) {
        for (int s = 0; s < 2; ++s) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 32;"
                         ::"r"((unsigned)__cvta_generic_to_shared(full + s)) : "memory");
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 32;"
                         ::"r"((unsigned)__cvta_generic_to_shared(empty + s)) : "memory");
        }
    }
    __syncthreads();
    int sum = 0;
    for (int k = 0; k < steps; ++k) {
        unsigned f = (unsigned)__cvta_generic_to_shared(full + (k & 1));
        unsigned e = (unsigned)__cvta_generic_to_shared(empty + (k & 1));
        unsigned phase = (k >> 1) & 1;
        if (threadIdx.x < 32) {
            wait(e, phase ^ 1);
            slots[k & 1][lane] = x[k * 32 + lane];
            asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(f) : "memory");
        } else {
            wait(f, phase);
            sum += slots[k & 1][31 - lane];
            asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(e) : "memory");
        }
    }
    if (threadIdx.x >= 32) out[lane] = sum;
}
