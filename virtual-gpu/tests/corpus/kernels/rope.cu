// Rotary position embedding in place, halves layout: pair (i, i + dim/2) of each head turns by
// position * theta^(-2i/dim).
// x (tokens, heads, dim) bf16, positions (tokens,). Grid: (tokens, heads). Block: dim/2 threads.

__device__ __forceinline__ float load_bf16(const unsigned short* p) { return __uint_as_float((unsigned)*p << 16); }

__device__ __forceinline__ void store_bf16(unsigned short* p, float value) {
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(*p) : "f"(value));
}

extern "C" __global__ void __launch_bounds__(128)
rope(unsigned short* __restrict__ x, const int* __restrict__ positions, float log2_theta) {
    const unsigned half = blockDim.x, i = threadIdx.x;
    unsigned short* head = x + ((size_t)blockIdx.x * gridDim.y + blockIdx.y) * (2 * half);

    const float turns_per_position = 0.15915494309f * exp2f(-log2_theta * i / half);
    const float turns = positions[blockIdx.x] * turns_per_position;
    // The fast sine is accurate only near zero: the whole turns go first.
    const float angle = 6.28318530718f * (turns - rintf(turns));
    float sine, cosine;
    __sincosf(angle, &sine, &cosine);

    const float a = load_bf16(head + i), b = load_bf16(head + half + i);
    store_bf16(head + i, a * cosine - b * sine);
    store_bf16(head + half + i, b * cosine + a * sine);
}
