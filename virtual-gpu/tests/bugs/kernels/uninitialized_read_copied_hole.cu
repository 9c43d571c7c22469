// Pads rows of 24 to 32 and rectifies them; the padding is rectified without having been written.
extern "C" __global__ void relu_rows(const float* x, float* out, int cols) {
    int t = threadIdx.x;
    float* row = out + blockIdx.x * 32;
    if (t < cols) row[t] = x[blockIdx.x * cols + t];
    __syncwarp();
    float v = row[t];  // BUG
    row[t] = v > 0.0f ? v : 0.0f;
}
