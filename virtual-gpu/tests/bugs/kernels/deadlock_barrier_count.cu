// The named barrier waits for 128 threads in a block of 96.
extern "C" __global__ void three_warps(const int* x, int* out) {
    __shared__ int tile[96];
    int t = threadIdx.x;
    tile[t] = x[t];
    asm volatile("bar.sync 1, 128;" ::: "memory");  // BUG
    out[t] = tile[95 - t];
}
