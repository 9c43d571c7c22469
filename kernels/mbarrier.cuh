// mbarriers in shared memory, addressed by 32-bit shared addresses.
#pragma once
#include "prelude.cuh"

DEVICE void mbarrier_init(u32 at, u32 arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at), "r"(arrivals) : "memory");
}

// Makes initialised mbarriers visible to asynchronous copies; the block's barrier has to follow.
DEVICE void mbarrier_init_fence() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
#endif
}

// Returns the state that it found.
DEVICE u64 mbarrier_arrive(u32 at) {
    u64 state;
    asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(at) : "memory");
    return state;
}

// Whether the phase of a state is over. Then what others did before they arrived is ordered before what follows.
DEVICE bool mbarrier_over(u32 at, u64 state) {
    u32 done;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(at), "l"(state)
                 : "memory");
    return done != 0;
}

// Whether the phase of that parity is over.
DEVICE bool mbarrier_test(u32 at, u32 parity) {
    u32 done;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(at), "r"(parity)
                 : "memory");
    return done != 0;
}

// The same; may rest a while before it says no.
DEVICE bool mbarrier_try(u32 at, u32 parity) {
#if __CUDA_ARCH__ >= 900
    u32 done;
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(at), "r"(parity)
                 : "memory");
    return done != 0;
#else
    return mbarrier_test(at, parity);
#endif
}
