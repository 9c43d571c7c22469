// Every thread sums all tiles in an order of its own; the next tile is stored while others still read.
extern "C" __global__ void tiled_sum(const float* x, float* out, int tiles) {
    __shared__ float tile[64];
    int t = threadIdx.x;
    float sum = 0.0f;
    for (int k = 0; k < tiles; ++k) {
        tile[t] = x[k * 64 + t];  // BUG
        __syncthreads();
        for (int i = 0; i < 64; ++i) {
            sum += tile[(t + i) & 63];  // BUG
        }
    }
    out[t] = sum;
}
