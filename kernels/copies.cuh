// Asynchronous copies from global to shared memory.
#pragma once
#include "prelude.cuh"

// 16 bytes, past L1. Reads through the generic proxy, so what other blocks stored needs no proxy fence.
DEVICE void copy_16(u32 to, u64 from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

// Ends a group of this thread's copies.
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most LEFT groups of this thread are under way. Others see the bytes after a barrier with this thread.
template <u32 LEFT> DEVICE void wait_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

// The mbarrier gets one of the arrivals it expects when the copies that this thread started have landed.
DEVICE void arrive_after_copies(u32 mbarrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(mbarrier) : "memory");
}

#if __CUDA_ARCH__ >= 900
DEVICE void arrive_expecting(u32 mbarrier, u32 bytes) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }" ::"r"(mbarrier), "r"(bytes)
                 : "memory");
}

// For what is read once in a step and is larger than L2: leaves there what is read again, as vectors of norms, rotations, KV and
// tapes, which would come from memory otherwise, each at the latency of one.
DEVICE u64 read_once() {
    u64 policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
DEVICE void copy_bulk_once(u32 to, u64 from, u32 bytes, u32 mbarrier) {
    const u64 policy = read_once();
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
                     to),
                 "l"(from), "r"(bytes), "r"(mbarrier), "l"(policy)
                 : "memory");
}

// Addresses and length are multiples of 16.
DEVICE void copy_bulk(u32 to, u64 from, u32 bytes, u32 mbarrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(mbarrier)
                 : "memory");
}
#endif
