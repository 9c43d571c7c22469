// The weight ring: producer warps fill stages of shared memory, eight consumer warps empty them. Stage s has two
// mbarriers: full, which the copies complete, and empty, at which each consumer warp arrives when it has read its part.
#pragma once
#include "hinted.cuh"
#include "probe.cuh"

#define CONSUMER_WARPS 8u
#define MAX_STAGES 16u

struct RingArguments {
    u64 tape;          // bytes to stream
    u64 block_stride;  // bytes from one block's first stage to the next block's
    u64 stage_stride;  // bytes from a block's stage to its next
    u64 sums;          // u32 a block: the sum of all words that it read
    u64 stamps;        // Stamp a block
    u64 fault;
    u32 stage_bytes;   // a multiple of 4096
    u32 stages;
    u32 wrap;          // stages after which a block begins again at its first
    u32 count;         // stages to stream
    u32 hint;          // 1: evict-first
    u32 producers;     // warps; 1 for bulk copies
};

struct RingShared {
    u64 full[MAX_STAGES], empty[MAX_STAGES];
    u32 stop;   // set: stream no further
    u32 total;  // stages that were streamed in all
};

DEVICE u32 load_flag(const u32* flag) {
    u32 value;
    asm volatile("ld.relaxed.cta.shared.u32 %0, [%1];" : "=r"(value) : "r"(shared_address(flag)) : "memory");
    return value;
}

DEVICE void store_flag(u32* flag, u32 value) {
    asm volatile("st.relaxed.cta.shared.u32 [%0], %1;" ::"r"(shared_address(flag)), "r"(value) : "memory");
}

template <bool BULK> DEVICE void ring_init(const RingArguments& ring, RingShared& shared) {
    if (threadIdx.x == 0) {
        for (u32 stage = 0; stage < ring.stages; stage++) {
            mbarrier_init(shared_address(shared.full + stage), BULK ? 1 : 32 * ring.producers);
            mbarrier_init(shared_address(shared.empty + stage), CONSUMER_WARPS);
        }
        store_flag(&shared.stop, 0);
        store_flag(&shared.total, ~0u);
        mbarrier_init_fence();
    }
    __syncthreads();
}

// The producers; `warp` counts from the first of them. Bulk copies need one lane, the others all.
template <bool BULK>
DEVICE void ring_produce(const RingArguments& ring, RingShared& shared, const void* data, u32 warp, u32 lane) {
    if (BULK && lane != 0) return;
    const u32 part = ring.stage_bytes / ring.producers;
    const u64 from = ring.tape + blockIdx.x * ring.block_stride;
    const u64 policy = evict_first();
    u32 stage = 0, parity = 1, position = 0;
    for (u32 i = 0;; i++) {
        const u32 full = shared_address(shared.full + stage);
        mbarrier_wait(shared_address(shared.empty + stage), parity, ring.fault, WAIT_EMPTY);
        // One lane decides whether it is the end; a run that can be stopped has one producer warp.
        u32 stop = load_flag(&shared.stop);
        if (!BULK) stop = __shfl_sync(~0u, stop, 0);
        if (i == ring.count || stop) {
            if (warp == 0 && lane == 0) store_flag(&shared.total, i);
            if (!BULK) __syncwarp();
            mbarrier_arrive(full);
            return;
        }
        const u32 to = shared_address(data) + stage * ring.stage_bytes;
        const u64 source = from + position * ring.stage_stride;
        if (BULK) {
#if __CUDA_ARCH__ >= 900
            arrive_expecting(full, ring.stage_bytes);
            if (ring.hint) copy_bulk_hinted(to, source, ring.stage_bytes, full, policy);
            else copy_bulk(to, source, ring.stage_bytes, full);
#endif
        } else {
            const u32 first = warp * part + lane * 16, last = (warp + 1) * part;
#pragma unroll 8
            for (u32 at = first; at < last; at += 512) {
                if (ring.hint) copy_16_hinted(to + at, source + at, policy);
                else copy_16(to + at, source + at);
            }
            arrive_after_copies(full);
        }
        if (++position == ring.wrap) position = 0;
        if (++stage == ring.stages) stage = 0, parity ^= 1;
    }
}

// A consumer warp: reads its eighth of each stage and gives the stage back. Every word is read once and summed.
DEVICE void ring_consume(const RingArguments& ring, RingShared& shared, const void* data, u32 warp, u32 lane) {
    const Stamp stamp = stamp_begin();
    const u32 part = ring.stage_bytes / CONSUMER_WARPS;
    u32 stage = 0, parity = 0, sum = 0, i = 0;
    for (;; i++) {
        mbarrier_wait(shared_address(shared.full + stage), parity, ring.fault, WAIT_FULL);
        if (load_flag(&shared.total) == i) break;
        const u32 from = shared_address(data) + stage * ring.stage_bytes + warp * part;
        for (u32 at = lane * 16; at < part; at += 512) sum += sum_of(load_shared(from + at));
        __syncwarp();
        if (lane == 0) mbarrier_arrive(shared_address(shared.empty + stage));
        if (++stage == ring.stages) stage = 0, parity ^= 1;
    }
    add_sum(sum, ring.sums + blockIdx.x * 4);
    if (threadIdx.x == 0) stamp_end(stamp, i, ring.stamps);
}
