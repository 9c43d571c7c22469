// 300 cooperative blocks of 1024 threads: two fit a multiprocessor.
extern "C" __global__ void persistent(unsigned* arrived) {  // BUG
    if (threadIdx.x == 0) {
        unsigned seen = 0;
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
        while (seen < gridDim.x) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                                              : "=r"(seen) : "l"(arrived) : "memory");
    }
    __syncthreads();
}
