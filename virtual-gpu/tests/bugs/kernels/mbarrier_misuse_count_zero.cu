// One arrival per two warps makes an expected count of zero in a block of one warp.
extern "C" __global__ void one_per_pair(const int* x, int* out) {
    __shared__ __align__(8) unsigned long long ready;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&ready);
    if (t == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;"  // BUG
                     ::"r"(bar), "r"(blockDim.x / 64) : "memory");
    }
    __syncwarp();
    out[t] = x[t];
}
