// Three-point convolution with a zero border; only the left border is cleared.
extern "C" __global__ void convolve(const float* x, float* y) {
    __shared__ float line[66];
    int t = threadIdx.x;
    line[t + 1] = x[t];
    if (t == 0) line[0] = 0.0f;
    __syncthreads();
    float near = line[t] + line[t + 1];
    y[t] = 0.25f * near + 0.5f * line[t + 2];  // BUG
}
