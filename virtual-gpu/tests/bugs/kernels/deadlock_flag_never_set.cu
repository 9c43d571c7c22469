// Block 0 raises the flag only for a value that the data does not hold.
extern "C" __global__ void wait_for_data(const int* x, int* flag, int* out) {
    int t = threadIdx.x;
    if (blockIdx.x == 0) {
        if (x[t] > 1000) {
            __threadfence();
            atomicExch(flag, 1);
        }
    } else {
        while (*(volatile int*)flag == 0) {}  // BUG
        __threadfence();
        out[t] = x[t];
    }
}
