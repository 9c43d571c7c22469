// Data and a volatile flag with a fence between them on either side.
extern "C" __global__ void relay(const int* x, int* data, int* flag, int* out) {
    int t = threadIdx.x;
    if (blockIdx.x == 0) {
        data[t] = x[t] + 1;
        __syncthreads();
        if (t == 0) {
            __threadfence();
            *(volatile int*)flag = 1;
        }
    } else {
        if (t == 0) {
            while (*(volatile int*)flag == 0) {}
            __threadfence();
        }
        __syncthreads();
        out[t] = data[63 - t] * 2;
    }
}
