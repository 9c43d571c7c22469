// Inclusive scan of counts: each block waits for the prefix of the block before it.
extern "C" __global__ void chained_scan(const int* x, int* prefix, unsigned* ready, int* out) {
    __shared__ int sums[64];
    __shared__ int carry;
    int t = threadIdx.x;
    int b = blockIdx.x;
    sums[t] = x[b * 64 + t];
    __syncthreads();
    for (int d = 1; d < 64; d <<= 1) {
        int add = t >= d ? sums[t - d] : 0;
        __syncthreads();
        sums[t] += add;
        __syncthreads();
    }
    if (t == 0) {
        int before = 0;
        if (b > 0) {
            unsigned seen = 0;
            while (seen == 0) {
                asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                             : "=r"(seen) : "l"(ready + b - 1) : "memory");
            }
            before = prefix[b - 1];
        }
        prefix[b] = before + sums[63];
        asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(ready + b) : "memory");
        carry = before;
    }
    __syncthreads();
    out[b * 64 + t] = carry + sums[t];
}
