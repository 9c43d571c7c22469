// Block 0 publishes its data by a plain store to the flag that block 1 polls.
extern "C" __global__ void relay(const int* x, int* data, int* flag, int* out) {
    int t = threadIdx.x;
    if (blockIdx.x == 0) {
        data[t] = x[t] + 1;
        __threadfence();
        __syncwarp();
        if (t == 0) {
            *flag = 1;  // BUG
        }
    } else {
        while (*(volatile int*)flag == 0) {}  // BUG
        __threadfence();
        out[t] = data[t] * 2;
    }
}
