// Inline PTX stores to a constant through its generic address.
__constant__ unsigned limits[4] = {1, 2, 3, 4};

extern "C" __global__ void bump(unsigned* out) {
    unsigned long long address;
    asm volatile("cvta.const.u64 %0, limits;" : "=l"(address));
    out[threadIdx.x] = limits[threadIdx.x & 3];
    if (threadIdx.x == 0) asm volatile("st.u32 [%0], 9;" ::"l"(address) : "memory");  // BUG
}
