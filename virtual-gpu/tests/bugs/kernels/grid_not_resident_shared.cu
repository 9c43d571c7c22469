// 300 cooperative blocks with 100 KiB of shared memory each: two fit a multiprocessor.
extern "C" __global__ void persistent_tiles(unsigned* arrived, float* out) {  // BUG
    extern __shared__ float tile[];
    for (int i = threadIdx.x; i < 25600; i += 128) tile[i] = i;
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned seen = 0;
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
        while (seen < gridDim.x) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                                              : "=r"(seen) : "l"(arrived) : "memory");
        out[blockIdx.x] = tile[blockIdx.x];
    }
}
