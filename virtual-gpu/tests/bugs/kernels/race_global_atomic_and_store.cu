// Block 0 clears the counter while other blocks may already count.
extern "C" __global__ void reset_and_count(const int* x, unsigned* count) {
    int t = threadIdx.x;
    if (blockIdx.x == 0 && t == 0) {
        *count = 0;  // BUG
    }
    __syncthreads();
    if (x[blockIdx.x * 64 + t] > 63) {
        atomicAdd(count, 1u);  // BUG
    }
}
