// Each input is spread over three outputs; the third belongs to the next thread, at the edge to the next block.
extern "C" __global__ void upsample(const float* x, float* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float v = x[i];
    y[2 * i] = v;  // BUG
    __syncwarp();
    y[2 * i + 1] = v;
    y[2 * i + 2] = 0.5f * v;  // BUG
}
