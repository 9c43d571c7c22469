// Expects the elements in bytes of half precision, but floats are copied: more bytes come than were announced.
extern "C" __global__ void expect_half(const float* x, float* out) {
    __shared__ __align__(128) float tile[512];
    __shared__ __align__(8) unsigned long long full;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&full);
    unsigned to = (unsigned)__cvta_generic_to_shared(tile);
    if (t == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;"  // BUG
                     ::"r"(bar) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "  // BUG
                     "[%0], [%1], 2048, [%2];"
                     ::"r"(to), "l"(x), "r"(bar) : "memory");
    }
    __syncwarp();
    unsigned done = 0;
    while (!done) {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; "
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(bar) : "memory");
    }
    out[t] = tile[t];
}
