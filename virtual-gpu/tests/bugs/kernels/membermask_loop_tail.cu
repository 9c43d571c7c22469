// In the last round of the loop only eight lanes are left, but the mask names 32.
extern "C" __global__ void strided_exchange(const float* x, float* out, int n) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += 32) {
        float v = x[i];
        sum += __shfl_xor_sync(0xffffffffu, v, 1);  // BUG
    }
    out[threadIdx.x] = sum;
}
