// A persistent grid with a counting barrier between its phases.
__device__ __forceinline__ void grid_barrier(unsigned* arrived, unsigned target) {
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
        unsigned seen = 0;
        while (seen < target) {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
        }
    }
    __syncthreads();
}

extern "C" __global__ void phases(const float* x, float* half_way, unsigned* arrived, float* out, int rounds) {
    int i = blockIdx.x * 64 + threadIdx.x;
    float v = x[i];
    unsigned target = 0;
    for (int r = 0; r < rounds; ++r) {
        half_way[i] = v;
        grid_barrier(arrived, target += gridDim.x);
        v = 0.5f * v + 0.5f * half_way[255 - i];
        grid_barrier(arrived, target += gridDim.x);
    }
    out[i] = v;
}
