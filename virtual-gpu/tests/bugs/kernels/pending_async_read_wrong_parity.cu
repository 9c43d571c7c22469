// The second wait uses the parity of the first phase, which is complete already, and returns at once.
extern "C" __global__ void bulk_two_tiles(const float* x, float* out) {
    __shared__ __align__(128) float tile[256];
    __shared__ __align__(8) unsigned long long full;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&full);
    unsigned to = (unsigned)__cvta_generic_to_shared(tile);
    if (t == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    float sum = 0.0f;
    for (int s = 0; s < 2; ++s) {
        if (t == 0) {
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
        for (int i = t; i < 256; i += 64) {
            sum += tile[i];  // BUG
        }
        __syncthreads();
    }
    out[t] = sum;
}
