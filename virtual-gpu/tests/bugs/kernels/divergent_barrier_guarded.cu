// The first barrier stands inside the bounds check; the fourth warp has lanes on both sides of it.
extern "C" __global__ void rotate(const float* x, float* y, int n) {
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t] = 0.0f;
    if (t < n) {
        tile[t] = x[t];
        __syncthreads();  // BUG
    }
    __syncthreads();  // BUG
    y[t] = tile[(t + 1) & 127];
}
