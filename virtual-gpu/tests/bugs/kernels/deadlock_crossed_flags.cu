// Each block first waits for the other one's flag and then raises its own.
extern "C" __global__ void handshake(unsigned* flags, unsigned* out) {
    int t = threadIdx.x;
    if (t == 0) {
        unsigned* theirs = flags + (1 - blockIdx.x);
        unsigned* mine = flags + blockIdx.x;
        unsigned seen = 0;
        while (seen == 0) {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(theirs) : "memory");  // BUG
        }
        asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(mine) : "memory");
    }
    __syncthreads();
    out[blockIdx.x * 32 + t] = t;
}
