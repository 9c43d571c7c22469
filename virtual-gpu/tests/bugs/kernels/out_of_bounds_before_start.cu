// Three-point moving average with a clamped right edge.
extern "C" __global__ void smooth(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int right = min(i + 1, n - 1);
    float left_value = x[i - 1];  // BUG
    y[i] = (left_value + x[i] + x[right]) * (1.0f / 3.0f);
}
