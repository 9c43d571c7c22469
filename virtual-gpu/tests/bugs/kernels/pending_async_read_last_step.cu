// wait_group 1 is right while a next stage is in flight; in the last step there is none, and the wait lets it pass.
extern "C" __global__ void double_buffered(const float* x, float* out, int steps) {
    __shared__ __align__(16) float stage[2][128];
    int t = threadIdx.x;
    float sum = 0.0f;
    unsigned first = (unsigned)__cvta_generic_to_shared(stage[0] + t * 4);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(first), "l"(x + t * 4) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    for (int s = 0; s < steps; ++s) {
        if (s + 1 < steps) {
            unsigned to = (unsigned)__cvta_generic_to_shared(stage[(s + 1) & 1] + t * 4);
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                         ::"r"(to), "l"(x + (s + 1) * 128 + t * 4) : "memory");
            asm volatile("cp.async.commit_group;" ::: "memory");
        }
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncwarp();
        sum += stage[s & 1][t * 4] + stage[s & 1][127 - t * 4];  // BUG
        __syncwarp();
    }
    out[t] = sum;
}
