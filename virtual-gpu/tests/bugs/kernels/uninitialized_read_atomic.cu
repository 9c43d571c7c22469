// Counts positive values into a counter that nobody has cleared.
extern "C" __global__ void count_positive(const float* x, unsigned* count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (x[i] > 0.0f) {
        atomicAdd(count, 1u);  // BUG
    }
}
