// Blocks read overlapping halos of a buffer that nobody writes; the last load ends exactly at its end.
extern "C" __global__ void blur(const float* x, float* y) {
    __shared__ float line[66];
    int t = threadIdx.x;
    int base = blockIdx.x * 64;
    for (int i = t; i < 66; i += 64) line[i] = x[base + i];
    __syncthreads();
    y[base + t] = (line[t] + line[t + 1] + line[t + 2]) * (1.0f / 3.0f);
}
