// Largest value per block; lanes past the end do not fill their slot.
extern "C" __global__ void tile_max(const float* x, float* out, int n) {
    __shared__ float slot[128];
    int t = threadIdx.x;
    int i = blockIdx.x * 128 + t;
    if (i < n) slot[t] = x[i];
    __syncthreads();
    for (int half = 64; half > 0; half >>= 1) {
        if (t < half) {
            slot[t] = fmaxf(slot[t], slot[t + half]);  // BUG
        }
        __syncthreads();
    }
    if (t == 0) out[blockIdx.x] = slot[0];
}
