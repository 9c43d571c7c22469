// Collects the odd values; the total is read while other warps still count.
extern "C" __global__ void compact(const int* x, int* out, int* total) {
    __shared__ int count;
    int t = threadIdx.x;
    if (t == 0) count = 0;
    __syncthreads();
    if (x[t] & 1) {
        int slot = atomicAdd(&count, 1);  // BUG
        out[slot] = x[t];
    }
    if (t == 0) {
        *total = count;  // BUG
    }
}
