// The two warps meet at the same two barriers in opposite order.
extern "C" __global__ void ping_pong(const int* x, int* out) {
    __shared__ int tile[64];
    int t = threadIdx.x;
    tile[t] = x[t];
    if (t < 32) {
        asm volatile("bar.sync 1, 64;" ::: "memory");  // BUG
        asm volatile("bar.sync 2, 64;" ::: "memory");
    } else {
        asm volatile("bar.sync 2, 64;" ::: "memory");  // BUG
        asm volatile("bar.sync 1, 64;" ::: "memory");
    }
    out[t] = tile[63 - t];
}
