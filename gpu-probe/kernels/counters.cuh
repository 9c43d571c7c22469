// Order between blocks beside what the device program uses: relaxed additions, a fence, words with their flags.
#pragma once
#include "probe.cuh"
#include "sync.cuh"

DEVICE void red_relaxed(u64 address) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(address) : "memory");
}

DEVICE void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

DEVICE u64 load_relaxed_pair(u64 address) {
    u64 value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
    return value;
}

DEVICE void store_relaxed_pair(u64 address, u64 value) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

DEVICE void wait_counter(u64 counter, u32 wanted, u64 fault) {
    for (u32 polls = 0; (int)(load_acquire(counter) - wanted) < 0;)
        if (++polls == POLLS) give_up(fault, WAIT_COUNTER);
}
