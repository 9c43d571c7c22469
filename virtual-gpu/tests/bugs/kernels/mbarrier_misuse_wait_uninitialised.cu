// Two stages, but the loop that initialises their barriers runs over one.
extern "C" __global__ void second_stage(const float* x, float* out, int stages) {
    __shared__ __align__(8) unsigned long long full[2];
    int t = threadIdx.x;
    if (t == 0) {
        for (int s = 0; s < stages; ++s) {
            unsigned bar = (unsigned)__cvta_generic_to_shared(full + s);
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 64;" ::"r"(bar) : "memory");
        }
    }
    __syncthreads();
    unsigned first = (unsigned)__cvta_generic_to_shared(full);
    unsigned second = (unsigned)__cvta_generic_to_shared(full + 1);
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(first) : "memory");
    unsigned done = 0;
    while (!done) {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; "  // BUG
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(second) : "memory");
    }
    out[t] = x[t];
}
