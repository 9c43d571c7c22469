// Scales a vector. The grid is rounded up to whole blocks.
extern "C" __global__ void scale(const float* x, float* y, float s) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[i] * s;  // BUG
}
