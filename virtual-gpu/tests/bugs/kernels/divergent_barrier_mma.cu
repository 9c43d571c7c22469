// The bounds check on the row leaves a part of the warp out of the matrix product.
extern "C" __global__ void guarded_mma(const unsigned* a, const unsigned* b, float* c, int rows) {
    int lane = threadIdx.x;
    int row = lane / 4 + 8;
    const unsigned* fa = a + lane * 4;
    const unsigned* fb = b + lane * 2;
    float* fc = c + lane * 4;
    float d0 = fc[0], d1 = fc[1], d2 = fc[2], d3 = fc[3];
    unsigned a0 = fa[0], a1 = fa[1], a2 = fa[2], a3 = fa[3], b0 = fb[0], b1 = fb[1];
    if (row < rows) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "  // BUG
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)
                     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
        fc[0] = d0;
        fc[1] = d1;
        fc[2] = d2;
        fc[3] = d3;
    }
}
