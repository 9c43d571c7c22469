// Thread 0 releases the flag before the other warps of its block have passed a barrier.
extern "C" __global__ void produce(const float* x, float* data, unsigned* ready, float* out) {
    int t = threadIdx.x;
    if (blockIdx.x == 0) {
        data[t] = x[t] * x[t];  // BUG
        if (t == 0) {
            asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(ready) : "memory");
        }
        __syncthreads();
    } else {
        unsigned seen = 0;
        while (seen == 0) {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(ready) : "memory");
        }
        __syncthreads();
        out[t] = data[127 - t] + 1.0f;  // BUG
    }
}
