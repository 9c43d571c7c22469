// Counts large values by a vote of the whole warp that only the lanes with a large value reach.
extern "C" __global__ void count_large(const int* x, int* out) {
    int v = x[threadIdx.x];
    int votes = 0;
    if (v >= 64) {
        votes = __popc(__ballot_sync(0xffffffffu, v >= 96));  // BUG
    }
    out[threadIdx.x] = votes;
}
