// One tree reduction per warp that relies on lanes running in step.
extern "C" __global__ void warp_sums(const int* x, int* out) {
    __shared__ int slots[4][32];
    int lane = threadIdx.x & 31;
    int warp = threadIdx.x >> 5;
    int* mine = slots[warp];
    mine[lane] = x[threadIdx.x];
    __syncwarp();
    for (int half = 16; half > 0; half >>= 1) {
        if (lane < half) {
            mine[lane] += mine[lane + half];  // BUG
        }
    }
    if (lane == 0) out[warp] = mine[0];
}
