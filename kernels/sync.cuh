// Order between threads of a block and between blocks.
#pragma once
#include "prelude.cuh"

// Named barriers: roles of a block diverge, so barrier 0 (__syncthreads) belongs to its beginning and end only.
#define CONSUMER_BARRIER 1u

DEVICE void barrier(u32 id, u32 threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

// Orders all that this thread wrote, and saw other threads of its block write at a barrier, before the addition.
DEVICE void red_release(u64 address, u32 value) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

// Adds and returns what was there; orders both what came before and what comes after.
DEVICE u32 add_acq_rel(u64 address, u32 value) {
    u32 before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(address), "r"(value) : "memory");
    return before;
}

DEVICE u32 load_acquire(u64 address) {
    u32 value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
}

DEVICE void store_release(u64 address, u32 value) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

// For the host: payload relaxed, then the tail released.
DEVICE void store_relaxed_system(u64 address, u32 value) {
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}
DEVICE void store_release_system(u64 address, u32 value) {
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}
DEVICE u32 load_acquire_system(u64 address) {
    u32 value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
}
