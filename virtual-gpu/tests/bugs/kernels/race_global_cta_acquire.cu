// The reader acquires at block scope what another block has released.
extern "C" __global__ void relay_add(const int* x, int* data, unsigned* flag, int* out) {
    int t = threadIdx.x;
    if (blockIdx.x == 0) {
        data[t] = x[t] + 1;  // BUG
        __syncwarp();
        if (t == 0) {
            asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(flag) : "memory");  // BUG
        }
    } else {
        unsigned seen = 0;
        while (seen == 0) {
            asm volatile("ld.acquire.cta.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");  // BUG
        }
        out[t] = data[t] * 2;  // BUG
    }
}
