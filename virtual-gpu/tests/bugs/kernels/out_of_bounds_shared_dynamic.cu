// Tree reduction; the launch gives 64 words of shared memory for 128 threads.
extern "C" __global__ void block_sums(const int* x, int* out) {
    extern __shared__ int partial[];
    int t = threadIdx.x;
    partial[t] = x[blockIdx.x * blockDim.x + t];  // BUG
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half >>= 1) {
        if (t < half) partial[t] += partial[t + half];
        __syncthreads();
    }
    if (t == 0) out[blockIdx.x] = partial[0];
}
