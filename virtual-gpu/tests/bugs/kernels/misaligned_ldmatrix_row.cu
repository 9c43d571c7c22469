// Loads a 16 x 16 tile of 16-bit values with ldmatrix; rows are padded by 4 values instead of 8.
extern "C" __global__ void load_fragments(const unsigned short* a, unsigned* out) {
    __shared__ __align__(16) unsigned short tile[16 * 20];
    int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) tile[i / 16 * 20 + i % 16] = a[i];
    __syncwarp();
    unsigned address = (unsigned)__cvta_generic_to_shared(tile + lane % 16 * 20 + lane / 16 * 8);
    unsigned r0, r1, r2, r3;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"  // BUG
                 : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
                 : "r"(address)
                 : "memory");
    out[lane] = r0;
    out[lane + 32] = r1;
    out[lane + 64] = r2;
    out[lane + 96] = r3;
}
