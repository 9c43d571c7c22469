// Largest value of each row, read in vectors of four; the row length is even but no multiple of four.
extern "C" __global__ void row_max(const float* a, float* out, int cols) {
    const float* row = a + blockIdx.x * cols;
    float best = -3.0e38f;
    for (int c = threadIdx.x * 4; c + 4 <= cols; c += 128) {
        float4 v = *reinterpret_cast<const float4*>(row + c);  // BUG
        best = fmaxf(best, fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)));
    }
    for (int c = cols / 4 * 4 + threadIdx.x; c < cols; c += 32) best = fmaxf(best, row[c]);
    for (int d = 16; d > 0; d >>= 1) best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, d));
    if (threadIdx.x == 0) out[blockIdx.x] = best;
}
