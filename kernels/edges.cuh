// Edges: counters that say how many blocks have written what the next phase reads. They only ever rise: run n of a segment
// waits for n times the arrivals of one run, so nothing is reset between runs.
#pragma once
#include "program.cuh"
#include "sync.cuh"
#include "timers.cuh"

#define EDGE_STRIDE 128u

// In mapped memory of the host: which wait was given up. `state` is written last.
struct Fault {
    u32 state;  // 0: none, 1: written
    u32 block, phase, wait, seen, wanted;
    u32 segment;  // of the call that the block last read
    u32 unused;
};

enum Wait { WAIT_EDGE = 1, WAIT_FULL, WAIT_ROUND, WAIT_EMPTY, WAIT_SUMS };

// Says which wait it was and ends the kernel: what it waits for will not come.
DEVICE void give_up(u64 fault, u32 wait, u32 seen, u32 wanted) {
    const Shared& shared = *(const Shared*)shared_region(SHARED_AT);
    store_relaxed_system(fault + 4, blockIdx.x);
    store_relaxed_system(fault + 8, shared.index);
    store_relaxed_system(fault + 12, wait);
    store_relaxed_system(fault + 16, seen);
    store_relaxed_system(fault + 20, wanted);
    store_relaxed_system(fault + 24, shared.call.segment);
    // Orders the words before the state that announces them.
    store_release_system(fault, 1);
    __trap();
    // So that nothing is kept alive for what would follow.
    __builtin_unreachable();
}

DEVICE u64 edge_address(const Program& program, u32 edge) { return program.edges + (u64)edge * EDGE_STRIDE; }

// Called by one thread. What the arriving blocks wrote is visible to it, and to those that meet it at a barrier after.
DEVICE void wait_counter(const Program& program, u64 counter, u32 wanted, u32 wait) {
    u32 polls = 0;
    for (;;) {
        const u32 seen = load_acquire(counter);
        if ((int)(seen - wanted) >= 0) return;
        if (++polls == program.patience) give_up(program.host, wait, seen, wanted);
    }
}

// Called by all consumers of a block before they read what the phase reads.
DEVICE void wait_edge(const Program& program, const Phase& phase, u32 run) {
    if (phase.edge_in == NONE) return;
    if (threadIdx.x == 0)
        wait_counter(program, edge_address(program, phase.edge_in), phase.arrivals_in * run, WAIT_EDGE);
    time_ready(program);
    // Orders thread 0's acquire before the reads of the others.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}

// Called by all consumers of a block when they have written what the phase writes and read what it reads.
DEVICE void arrive_edge(const Program& program, const Phase& phase) {
    if (phase.edge_out == NONE) return;
    // Orders all writes of the block before thread 0's release.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x == 0) red_release(edge_address(program, phase.edge_out), 1);
}
