// In-place blur in shared memory: each thread overwrites its element while the neighbours still read it.
extern "C" __global__ void blur(const float* x, float* y) {
    __shared__ float line[66];
    int t = threadIdx.x;
    int base = blockIdx.x * 64;
    line[t + 1] = x[base + t];
    if (t == 0) line[0] = x[base];
    if (t == 63) line[65] = x[base + 63];
    __syncthreads();
    float v = (line[t] + line[t + 1] + line[t + 2]) * (1.0f / 3.0f);  // BUG
    line[t + 1] = v;  // BUG
    __syncthreads();
    y[base + t] = line[t + 1] - x[base + t];
}
