// Lane 0 of each warp publishes the sum of its warp; the others read it without __syncwarp.
extern "C" __global__ void normalise(const float* x, float* y) {
    __shared__ float total[2];
    int lane = threadIdx.x & 31;
    int warp = threadIdx.x >> 5;
    if (threadIdx.x < 2) total[threadIdx.x] = 1.0f;
    __syncthreads();
    float v = fabsf(x[threadIdx.x]);
    float sum = v;
    for (int d = 16; d > 0; d >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, d);
    if (lane == 0) {
        total[warp] = sum;  // BUG
    }
    y[threadIdx.x] = v / total[warp];  // BUG
}
