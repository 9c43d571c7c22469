// Keeps the four largest of n values per thread by insertion into a sorted local list.
extern "C" __global__ void top4(const int* x, int* out, int n) {
    int best[4] = {-1, -1, -1, -1};
    const int* mine = x + threadIdx.x * n;
    for (int i = 0; i < n; ++i) {
        int v = mine[i];
        int slot = 4;
        while (slot > 0 && best[slot - 1] < v) {
            best[slot] = best[slot - 1];  // BUG
            --slot;
        }
        if (slot < 4) best[slot] = v;
    }
    for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = best[i];
}
