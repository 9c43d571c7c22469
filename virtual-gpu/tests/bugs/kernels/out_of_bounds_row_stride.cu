// Sums each row of a rows x cols matrix, one warp per row.
extern "C" __global__ void row_sum(const float* a, float* out, int rows, int cols) {
    int row = blockIdx.x;
    float sum = 0.0f;
    for (int c = threadIdx.x; c < cols; c += 32) {
        sum += a[row * rows + c];  // BUG
    }
    for (int d = 16; d > 0; d >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    if (threadIdx.x == 0) out[row] = sum;
}
