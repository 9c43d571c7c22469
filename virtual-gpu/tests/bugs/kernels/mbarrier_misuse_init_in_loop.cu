// Initialises the barrier anew for each tile without invalidating it.
extern "C" __global__ void reinitialised(const float* x, float* out, int tiles) {
    __shared__ __align__(128) float tile[256];
    __shared__ __align__(8) unsigned long long full;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&full);
    unsigned to = (unsigned)__cvta_generic_to_shared(tile);
    float sum = 0.0f;
    for (int s = 0; s < tiles; ++s) {
        if (t == 0) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");  // BUG
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;" ::"r"(bar) : "memory");
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                         "[%0], [%1], 1024, [%2];"
                         ::"r"(to), "l"(x + s * 256), "r"(bar) : "memory");
        }
        __syncthreads();
        unsigned done = 0;
        while (!done) {
            asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; "
                         "selp.u32 %0, 1, 0, p; }"
                         : "=r"(done) : "r"(bar) : "memory");
        }
        sum += tile[t] + tile[255 - t];
        __syncthreads();
    }
    out[t] = sum;
}
