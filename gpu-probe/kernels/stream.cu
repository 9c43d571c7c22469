// Fill, copy and read of large buffers: the rates that everything else is a share of.
#include "probe.cuh"

struct StreamArguments {
    u64 from;     // address; for `fill`, the index of its first word
    u64 to;
    u64 vectors;  // of 16 bytes
    u64 sum;      // u32: the sum of all words that were read
};

// Word i of what the ring and everything else reads; `word_sum` in src/expected.rs sums it.
DEVICE u32 tape_word(u32 i) { return i * 0x9e3779b1u + 0x7f4a7c15u; }

DEVICE uint4 load_stream(u64 address) {
    uint4 value;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address)
                 : "memory");
    return value;
}

KERNEL __launch_bounds__(512) fill(const StreamArguments arguments) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < arguments.vectors; i += step) {
        const u32 first = (u32)(arguments.from + i * 4);
        ((uint4*)arguments.to)[i] =
            make_uint4(tape_word(first), tape_word(first + 1), tape_word(first + 2), tape_word(first + 3));
    }
}

KERNEL __launch_bounds__(512) copy(const StreamArguments arguments) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    uint4* to = (uint4*)arguments.to;
    for (; i + 3 * step < arguments.vectors; i += 4 * step) {
        uint4 values[4];
#pragma unroll
        for (u32 j = 0; j < 4; j++) values[j] = load_stream(arguments.from + (i + j * step) * 16);
#pragma unroll
        for (u32 j = 0; j < 4; j++) to[i + j * step] = values[j];
    }
    for (; i < arguments.vectors; i += step) to[i] = load_stream(arguments.from + i * 16);
}

KERNEL __launch_bounds__(512) read(const StreamArguments arguments) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u32 sum = 0;
    for (; i + 7 * step < arguments.vectors; i += 8 * step) {
        uint4 values[8];
#pragma unroll
        for (u32 j = 0; j < 8; j++) values[j] = load_stream(arguments.from + (i + j * step) * 16);
#pragma unroll
        for (u32 j = 0; j < 8; j++) sum += sum_of(values[j]);
    }
    for (; i < arguments.vectors; i += step) sum += sum_of(load_stream(arguments.from + i * 16));
    add_sum(sum, arguments.sum);
}

// Nothing: what a launch costs.
KERNEL empty(const StreamArguments) {}
