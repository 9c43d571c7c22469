// The grid barrier waits until one block more has arrived than there are.
extern "C" __global__ void phases(const float* x, float* half_way, unsigned* arrived, float* out) {
    int i = blockIdx.x * 64 + threadIdx.x;
    half_way[i] = x[i] * 2.0f;
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
        unsigned seen = 0;
        while (seen <= gridDim.x) {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"  // BUG
                         : "=r"(seen) : "l"(arrived) : "memory");
        }
    }
    __syncthreads();
    out[i] = half_way[255 - i];
}
