// What every kernel of the probe uses: types, clocks, block stamps, waits that give up. No header of a toolkit.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__ void

DEVICE u64 clocks() {
    u64 value;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(value)::"memory");
    return value;
}

DEVICE u64 nanoseconds() {
    u64 value;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(value)::"memory");
    return value;
}

DEVICE u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

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

DEVICE uint4 load_shared(u32 address) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(address)
                 : "memory");
    return value;
}

// Reads that go to L2, for data that other blocks have written in the same kernel.
DEVICE u32 load_l2(u64 address) {
    u32 value;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
}

DEVICE uint4 load_l2_vector(u64 address) {
    uint4 value;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address)
                 : "memory");
    return value;
}

DEVICE u32 sum_of(uint4 value) { return value.x + value.y + value.z + value.w; }
