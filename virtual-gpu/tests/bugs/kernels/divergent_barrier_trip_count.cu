// The number of barriers that a thread meets depends on its index: 300 is no multiple of the block size.
extern "C" __global__ void chunked_sum(const float* x, float* out, int n) {
    __shared__ float chunk[128];
    int t = threadIdx.x;
    float sum = 0.0f;
    chunk[t] = 0.0f;
    for (int i = t; i < n; i += 128) {
        chunk[t] = x[i];
        __syncthreads();  // BUG
        sum += chunk[t ^ 1];
        __syncthreads();  // BUG
    }
    __syncthreads();  // BUG
    out[t] = sum + chunk[127 - t];
}
