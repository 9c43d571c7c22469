// A bulk copy signals an mbarrier; the threads meet at a block barrier instead of waiting for the mbarrier.
extern "C" __global__ void bulk_scale(const float* x, float* y) {
    __shared__ __align__(128) float tile[512];
    __shared__ __align__(8) unsigned long long full;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&full);
    unsigned to = (unsigned)__cvta_generic_to_shared(tile);
    if (t == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 2048;" ::"r"(bar) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1], 2048, [%2];"
                     ::"r"(to), "l"(x), "r"(bar) : "memory");
    }
    __syncthreads();
    for (int i = t; i < 512; i += 128) {
        y[i] = 3.0f * tile[i];  // BUG
    }
}
