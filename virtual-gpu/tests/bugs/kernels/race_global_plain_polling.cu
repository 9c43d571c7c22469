// Block 1 polls the flag with plain loads.
extern "C" __global__ void wait_for_peer(unsigned* flag, int* data, int* out) {
    int t = threadIdx.x;
    if (blockIdx.x == 0) {
        data[t] = t * t;
        __syncwarp();
        if (t == 0) {
            asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(flag) : "memory");  // BUG
        }
    } else {
        while (*flag == 0) {  // BUG
            asm volatile("nanosleep.u32 64;" ::: "memory");
        }
        __threadfence();
        out[t] = data[t];
    }
}
