// A tree reduction inside each warp with __syncwarp after every read and every write.
extern "C" __global__ void warp_sums(const int* x, int* out) {
    __shared__ int slots[4][32];
    int lane = threadIdx.x & 31;
    int warp = threadIdx.x >> 5;
    int* mine = slots[warp];
    mine[lane] = x[threadIdx.x];
    __syncwarp();
    for (int half = 16; half > 0; half >>= 1) {
        int other = mine[(lane + half) & 31];
        __syncwarp();
        if (lane < half) mine[lane] += other;
        __syncwarp();
    }
    if (lane == 0) out[warp] = mine[0];
}
