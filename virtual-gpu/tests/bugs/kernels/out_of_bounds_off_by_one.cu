// y += a * x
extern "C" __global__ void axpy(const float* __restrict__ x, float* y, float a, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) {
        float v = x[i];  // BUG
        y[i] = fmaf(a, v, y[i]);  // BUG
    }
}
