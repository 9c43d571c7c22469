// Even and odd lanes each have a barrier of their own.
extern "C" __global__ void butterfly(const int* x, int* y) {
    __shared__ int tile[64];
    int t = threadIdx.x;
    tile[t] = x[t];
    if (t & 1) {
        __syncthreads();  // BUG
        y[t] = tile[t - 1] - tile[t];
    } else {
        __syncthreads();  // BUG
        y[t] = tile[t + 1] + tile[t];
    }
}
