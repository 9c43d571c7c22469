// Asynchronous copies that tell L2 what to keep.
#pragma once
#include "copies.cuh"

DEVICE u64 evict_first() {
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

DEVICE void copy_16_hinted(u32 to, u64 from, u64 policy) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "l"(policy)
                 : "memory");
}

#if __CUDA_ARCH__ >= 900
DEVICE void copy_bulk_hinted(u32 to, u64 from, u32 bytes, u32 mbarrier, u64 policy) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
            to),
        "l"(from), "r"(bytes), "r"(mbarrier), "l"(policy)
        : "memory");
}
#endif
