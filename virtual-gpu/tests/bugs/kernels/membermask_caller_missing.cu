// All lanes exchange with their neighbour, the mask names only the lower half.
extern "C" __global__ void pairs(const int* x, int* out) {
    int v = x[threadIdx.x];
    int other = __shfl_xor_sync(0x0000ffffu, v, 1);  // BUG
    out[threadIdx.x] = v * 2 + other;
}
