// A named barrier for the first 48 threads; barriers count whole warps, and half of the second warp is elsewhere.
extern "C" __global__ void half_block(const float* x, float* y) {
    __shared__ float tile[96];
    int t = threadIdx.x;
    tile[t] = x[t];
    if (t < 48) {
        asm volatile("bar.sync 1, 64;" ::: "memory");  // BUG
    }
    __syncthreads();  // BUG
    y[t] = tile[95 - t];
}
