// Two buffers and one barrier per step, but the prefetch goes into the buffer that is being read.
extern "C" __global__ void pipeline(const float* x, float* out, int steps) {
    __shared__ float buffer[2][128];
    int t = threadIdx.x;
    float sum = 0.0f;
    buffer[0][t] = x[t];
    buffer[1][t] = 0.0f;
    __syncthreads();
    for (int s = 0; s < steps; ++s) {
        if (s + 1 < steps) {
            buffer[s & 1][t] = x[(s + 1) * 128 + t];  // BUG
        }
        sum += buffer[s & 1][127 - t];  // BUG
        __syncthreads();
    }
    out[t] = sum;
}
