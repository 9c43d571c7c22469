// Each thread waits for its own asynchronous copies, then reads what other threads have copied.
extern "C" __global__ void stage_reverse(const float* x, float* y) {
    __shared__ __align__(16) float stage[512];
    int t = threadIdx.x;
    for (int i = 0; i < 4; ++i) stage[t * 4 + i] = 0.0f;
    __syncthreads();
    unsigned to = (unsigned)__cvta_generic_to_shared(stage + t * 4);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + t * 4) : "memory");  // BUG
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 0;" ::: "memory");  // BUG
    y[t] = stage[511 - t * 4];  // BUG
}
