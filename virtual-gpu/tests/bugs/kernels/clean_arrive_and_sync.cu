// Producers arrive at the full barrier and wait at the empty one, consumers the other way round.
extern "C" __global__ void hand_over(const int* x, int* out, int steps) {
    __shared__ int mail[64];
    int t = threadIdx.x;
    if (t < 64) {
        for (int s = 0; s < steps; ++s) {
            if (s > 0) asm volatile("bar.sync 2, 128;" ::: "memory");
            mail[t] = x[s * 64 + t];
            asm volatile("bar.arrive 1, 128;" ::: "memory");
        }
    } else {
        int sum = 0;
        for (int s = 0; s < steps; ++s) {
            asm volatile("bar.sync 1, 128;" ::: "memory");
            sum += mail[127 - t];
            if (s + 1 < steps) asm volatile("bar.arrive 2, 128;" ::: "memory");
        }
        out[t - 64] = sum;
    }
}
