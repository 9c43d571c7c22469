// The most frequent class (of eight) of each row; the loop that clears the tally stops one short.
extern "C" __global__ void mode(const unsigned char* x, unsigned char* out) {
    int tally[8];
    for (int k = 0; k < 7; ++k) tally[k] = 0;
    for (int i = 0; i < 8; ++i) {
        int k = x[threadIdx.x * 8 + i] & 7;
        tally[k]++;  // BUG
    }
    int best = 0;
#pragma unroll 1
    for (int k = 1; k < 7; ++k) {
        if (tally[k] > tally[best]) best = k;
    }
    out[threadIdx.x] = best;
}
