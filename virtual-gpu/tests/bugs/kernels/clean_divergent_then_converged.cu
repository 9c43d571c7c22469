// Lanes leave the loop at different times and are brought together before the exchange.
extern "C" __global__ void powers(const int* x, int* out) {
    int n = x[threadIdx.x];
    int v = 1;
    while (n > 0) {
        v = v * 3 % 1000;
        --n;
    }
    __syncwarp();
    out[threadIdx.x] = v + __shfl_xor_sync(0xffffffffu, v, 1);
}
