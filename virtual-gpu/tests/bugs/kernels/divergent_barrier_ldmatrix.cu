// ldmatrix is executed by half of the warp, but it is an instruction of the whole warp.
extern "C" __global__ void half_warp_fragments(const unsigned short* a, unsigned* out) {
    __shared__ __align__(16) unsigned short tile[64];
    int lane = threadIdx.x;
    for (int i = lane; i < 64; i += 32) tile[i] = a[i];
    __syncwarp();
    if (lane < 16) {
        unsigned address = (unsigned)__cvta_generic_to_shared(tile + lane % 8 * 8);
        unsigned r;
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"  // BUG
                     : "=r"(r) : "r"(address) : "memory");
        out[lane] = r;
    }
}
