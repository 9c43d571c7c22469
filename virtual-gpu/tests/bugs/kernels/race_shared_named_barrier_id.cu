// Two warps produce, two consume; the producers arrive at barrier 2, the consumers meet at barrier 1 among themselves.
extern "C" __global__ void hand_over(const int* x, int* out) {
    __shared__ int mail[64];
    int t = threadIdx.x;
    if (t < 64) mail[t] = 0;
    __syncthreads();
    if (t < 64) {
        mail[t] = x[t] * 3;  // BUG
        asm volatile("bar.arrive 2, 128;" ::: "memory");
    } else {
        asm volatile("bar.sync 1, 64;" ::: "memory");
        out[t - 64] = mail[127 - t];  // BUG
    }
}
