// Rows of five floats in shared memory; the last four are read as two pairs.
extern "C" __global__ void pair_product(const float* x, float* out) {
    __shared__ float rows[64 * 5];
    for (int i = threadIdx.x; i < 64 * 5; i += 64) rows[i] = x[i];
    __syncthreads();
    const float* row = rows + threadIdx.x * 5;
    float2 a = *reinterpret_cast<const float2*>(row + 1);  // BUG
    float2 b = *reinterpret_cast<const float2*>(row + 3);  // BUG
    out[threadIdx.x] = row[0] + a.x * b.x + a.y * b.y;
}
