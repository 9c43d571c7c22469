// Lanes past the end return; the mask of the others was voted before.
extern "C" __global__ void tail_max(const int* x, int* out, int n) {
    int t = threadIdx.x;
    unsigned mask = __ballot_sync(0xffffffffu, t < n);
    if (t >= n) return;
    int best = x[t];
    int lanes = __popc(mask);
    for (int d = 16; d > 0; d >>= 1) {
        int other = __shfl_down_sync(mask, best, d);
        if ((t & 31) + d < lanes) best = max(best, other);
    }
    if ((t & 31) == 0) out[t >> 5] = best;
}
