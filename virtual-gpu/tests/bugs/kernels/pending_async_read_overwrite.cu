// Clears the tail of the tile while the copy that fills it may still be under way.
extern "C" __global__ void clear_after_copy(const float* x, float* y, int n) {
    __shared__ __align__(16) float tile[256];
    int t = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(tile + t * 4);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + t * 4) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    for (int i = t * 4; i < t * 4 + 4; ++i) {
        if (i >= n) {
            tile[i] = 0.0f;  // BUG
        }
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();
    for (int i = t; i < 256; i += 64) y[i] = tile[i];
}
