// The proxy fence stands before the stores that it should order.
extern "C" __global__ void bulk_reverse(const float* x, float* y) {
    __shared__ __align__(128) float tile[128];
    int t = threadIdx.x;
    float v = x[t];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    tile[127 - t] = v;
    __syncthreads();
    if (t == 0) {
        unsigned from = (unsigned)__cvta_generic_to_shared(tile);
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 512;"  // BUG
                     ::"l"(y), "r"(from) : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
