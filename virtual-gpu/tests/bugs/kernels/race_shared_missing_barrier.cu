// Reverses each block of 128 through a cleared tile, without a barrier between the store and the load.
extern "C" __global__ void reverse(const float* x, float* y) {
    __shared__ float tile[128];
    int t = threadIdx.x;
    int base = blockIdx.x * 128;
    tile[t] = 0.0f;
    __syncthreads();
    tile[t] = x[base + t];  // BUG
    y[base + t] = tile[127 - t];  // BUG
}
