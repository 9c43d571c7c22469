// Reads memory once, as fast as plain loads go.
struct Parameters {
    unsigned long long from;     // uint4 [vectors]
    unsigned long long vectors;
    unsigned long long sums;     // u32 [threads of the grid]: exclusive or of all words that a thread read
};

extern "C" __global__ void read(const Parameters p) {
    const unsigned long long thread = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned long long threads = (unsigned long long)gridDim.x * blockDim.x;
    const uint4* const from = (const uint4*)p.from;
    unsigned sum = 0;
#pragma unroll 8
    for (unsigned long long i = thread; i < p.vectors; i += threads) {
        uint4 word;
        asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w) : "l"(from + i));
        sum ^= word.x ^ word.y ^ word.z ^ word.w;
    }
    ((unsigned*)p.sums)[thread] = sum;
}
