// Bulk load, ordinary arithmetic in place, proxy fence by the writers, bulk store.
extern "C" __global__ void bulk_negate(const float* x, float* y) {
    __shared__ __align__(128) float tile[256];
    __shared__ __align__(8) unsigned long long full;
    int t = threadIdx.x;
    const float* from = x + blockIdx.x * 256;
    float* to = y + blockIdx.x * 256;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&full);
    unsigned tile_address = (unsigned)__cvta_generic_to_shared(tile);
    if (t == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;" ::"r"(bar) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1], 1024, [%2];"
                     ::"r"(tile_address), "l"(from), "r"(bar) : "memory");
    }
    __syncthreads();
    unsigned done = 0;
    while (!done) {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; "
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(bar) : "memory");
    }
    for (int i = t; i < 256; i += 128) tile[i] = -tile[i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (t == 0) {
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 1024;"
                     ::"l"(to), "r"(tile_address) : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
