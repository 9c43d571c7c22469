// Two stages in flight: before stage s is read at most one group may be pending, the wait allows two.
extern "C" __global__ void stream_sum(const float* x, float* out, int steps) {
    __shared__ __align__(16) float stage[3][256];
    int t = threadIdx.x;
    float sum = 0.0f;
    for (int s = 0; s < 2; ++s) {
        unsigned to = (unsigned)__cvta_generic_to_shared(stage[s] + t * 4);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                     ::"r"(to), "l"(x + s * 256 + t * 4) : "memory");
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    for (int s = 0; s < steps; ++s) {
        asm volatile("cp.async.wait_group 2;" ::: "memory");
        __syncthreads();
        int next = s + 2;
        if (next < steps) {
            unsigned to = (unsigned)__cvta_generic_to_shared(stage[next % 3] + t * 4);
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                         ::"r"(to), "l"(x + next * 256 + t * 4) : "memory");
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        const float* now = stage[s % 3];
        sum += now[t] + now[t + 64] + now[t + 128] + now[t + 192];  // BUG
    }
    out[t] = sum;
}
