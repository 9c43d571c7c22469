// Periodic five-point stencil over tiles of 128: the halo needs two elements on each side, the array has two in all.
extern "C" __global__ void stencil(const float* x, float* y) {
    __shared__ float tile[128 + 2];
    int t = threadIdx.x;
    int base = blockIdx.x * 128;
    tile[t] = x[base + (t + 126) % 128];
    if (t < 4) {
        tile[t + 128] = x[base + (t + 126) % 128];  // BUG
    }
    __syncthreads();
    y[base + t] = tile[t] + tile[t + 1] + tile[t + 2] + tile[t + 3] + tile[t + 4];
}
