// A barrier inside a branch that is the same for the whole block, and in a loop whose length is.
extern "C" __global__ void odd_blocks(const int* x, int* out) {
    __shared__ int tile[64];
    int t = threadIdx.x;
    int v = x[blockIdx.x * 64 + t];
    if (blockIdx.x & 1) {
        for (unsigned r = 0; r < blockIdx.x; ++r) {
            tile[t] = v;
            __syncthreads();
            v += tile[63 - t];
            __syncthreads();
        }
    }
    out[blockIdx.x * 64 + t] = v;
}
