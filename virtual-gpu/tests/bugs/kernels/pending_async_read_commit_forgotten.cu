// wait_group counts committed groups only, and this copy belongs to none.
extern "C" __global__ void stage_negate(const float* x, float* y) {
    __shared__ __align__(16) float stage[512];
    int t = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(stage + t * 4);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + t * 4) : "memory");
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();
    y[t] = -stage[511 - t * 4];  // BUG
}
