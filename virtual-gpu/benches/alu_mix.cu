// A mix of integer and f32 instructions in registers, a compare and a branch in each round: what an interpreter costs
// when memory does not matter.
// out (gridDim.x * blockDim.x,). Any block.
extern "C" __global__ void alu_mix(float* out, int rounds, unsigned seed) {
    unsigned x = seed + threadIdx.x, y = x * 2654435761u;
    float f = x * 1e-3f, g = 1.0f;
#pragma unroll 8
    for (int i = 0; i < rounds; i++) {
        x = x * 1664525u + 1013904223u;
        y ^= x >> 7;
        y += (x & 0xffff) << 3;
        f = f * 0.99f + g;
        g = g * f + 0.5f;
        g = fminf(g, 3.0f);
        y ^= x | 5u;
        if (i == (int)y) f += 1.0f;
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = f + g + (float)(x ^ y);
}
