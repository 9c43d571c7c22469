// What every kernel of the probe uses beside the headers of the device program: clocks, block stamps, waits that give up.
#pragma once
#include "mbarrier.cuh"
#include "prelude.cuh"

DEVICE u64 clocks() {
    u64 value;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(value)::"memory");
    return value;
}

// When a block began and ended its measured part, by the timer of the device and by the clock of its SM.
struct Stamp {
    u64 first_ns, last_ns, clocks;
    // What the block did, in units of the kernel: stages, edges, products.
    u64 done;
};

DEVICE Stamp stamp_begin() { return {nanoseconds(), 0, clocks(), 0}; }

DEVICE void stamp_end(Stamp stamp, u64 done, u64 at) {
    stamp.clocks = clocks() - stamp.clocks;
    stamp.last_ns = nanoseconds();
    stamp.done = done;
    ((Stamp*)at)[blockIdx.x] = stamp;
}

// Polls after which a wait counts as hopeless: seconds, where a wait that works takes microseconds.
#define POLLS (1u << 24)

// Tells the host which wait it was, through a word of its own memory, and ends the kernel.
DEVICE void give_up(u64 fault, u32 code) {
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(fault), "r"(code) : "memory");
    __threadfence_system();
    __trap();
}

// Codes of waits; src/bench.rs names them.
enum Wait { WAIT_FULL = 1, WAIT_EMPTY = 2, WAIT_COUNTER = 3, WAIT_FLAG = 4, WAIT_HOST = 5 };

// Sum over the threads of a block, added to one word.
DEVICE void add_sum(u32 sum, u64 at) {
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (threadIdx.x % 32 == 0) atomicAdd((u32*)at, sum);
}

DEVICE u32 sum_of(uint4 value) { return value.x + value.y + value.z + value.w; }

DEVICE void mbarrier_wait(u32 at, u32 parity, u64 fault, u32 code) {
    for (u32 polls = 0; !mbarrier_test(at, parity);)
        if (++polls == POLLS) give_up(fault, code);
}
