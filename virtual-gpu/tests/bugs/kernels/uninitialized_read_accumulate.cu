// Adds x to a buffer that nobody has cleared.
extern "C" __global__ void add_into(const float* x, float* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] += x[i];  // BUG
}
