// A hand-made grid barrier whose waiting side polls with relaxed loads and no fence after them.
extern "C" __global__ void two_phase(const float* x, float* half_way, unsigned* arrived, float* out) {
    int i = blockIdx.x * 64 + threadIdx.x;
    half_way[i] = 2.0f * x[i];  // BUG
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
        unsigned seen = 0;
        while (seen < gridDim.x) {
            asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
        }
    }
    __syncthreads();
    out[i] = half_way[255 - i];  // BUG
}
