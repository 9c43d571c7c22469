// Looks a class up in a local table that is filled for the first `classes` entries only.
extern "C" __global__ void remap(const int* x, int* out, int classes) {
    int table[12];
    for (int k = 0; k < classes; ++k) table[k] = (k * 7) % 10;
    int v = table[x[threadIdx.x]];  // BUG
    out[threadIdx.x] = v;
}
