// What it costs one thread to release the stores of its block.
#include "counters.cuh"

struct ReleaseArguments {
    u64 counter;  // u32, 0 at first
    u64 sink;     // u32 a thread of a block
    u64 clocks;   // u64 [WAYS]: clocks of `count` rounds by block 0
    u32 count;
    u32 pad;
};

#define WAYS 6

template <int WAY> DEVICE void release(const ReleaseArguments& arguments) {
    const u64 mine = arguments.counter;
    u32 seen;
    if (WAY == 0) red_relaxed(mine);
    if (WAY == 1) red_release(mine, 1);
    if (WAY == 2) fence_gpu(), red_relaxed(mine);
    // With an answer, a thread knows that L2 has it: the latency, not only the time until it may go on.
    if (WAY == 3) asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], 1;" : "=r"(seen) : "l"(mine) : "memory");
    if (WAY == 4) asm volatile("atom.release.gpu.global.add.u32 %0, [%1], 1;" : "=r"(seen) : "l"(mine) : "memory");
    if (WAY == 5) {
        fence_gpu();
        asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], 1;" : "=r"(seen) : "l"(mine) : "memory");
    }
    // Waits for the answer.
    if (WAY >= 3 && seen == ~0u) __trap();
}

template <int WAY> DEVICE void rounds(const ReleaseArguments& arguments) {
    u32* sink = (u32*)arguments.sink + blockIdx.x * blockDim.x + threadIdx.x;
    __syncthreads();
    const u64 first = clocks();
    for (u32 i = 0; i < arguments.count; i++) {
        *(volatile u32*)sink = i + 1;
        __syncthreads();
        if (threadIdx.x == 0) release<WAY>(arguments);
        __syncthreads();
    }
    const u64 last = clocks();
    if (blockIdx.x == 0 && threadIdx.x == 0) ((u64*)arguments.clocks)[WAY] = last - first;
}

KERNEL __launch_bounds__(256, 1) release_cost(const ReleaseArguments arguments) {
    rounds<0>(arguments);
    rounds<1>(arguments);
    rounds<2>(arguments);
    rounds<3>(arguments);
    rounds<4>(arguments);
    rounds<5>(arguments);
}
