// Stages four floats of each row with 16-byte asynchronous copies; rows are five floats apart.
extern "C" __global__ void stage_rows(const float* x, float* out) {
    __shared__ __align__(16) float stage[64 * 4];
    int t = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(stage + t * 4);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + t * 5) : "memory");  // BUG
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    for (int i = 0; i < 4; ++i) out[t * 4 + i] = stage[t * 4 + i];
}
