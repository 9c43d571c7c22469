// An edge: every block writes, every block waits for every block, every block reads what it needs. Two protocols, called by
// EDGE_THREADS threads of a block. Buffers alternate, so that a block that is ahead overwrites nothing unread: who writes
// for edge e + 2 has passed edge e + 1, at which all arrived after they had read for edge e.
#pragma once
#include "counters.cuh"

#define EDGE_THREADS 256u
// Words with their flags that a block contributes: 132 blocks give the 4096 bf16 activations of one token.
#define FLAGGED_WORDS 16u

struct EdgeArguments {
    u64 counters;  // `spread` u32, 256 bytes apart, 0 at first
    u64 payload;   // u32 [2][blocks][EDGE_THREADS], or u64 [2][blocks][FLAGGED_WORDS] that are 0 at first
    u64 sums;      // u32 a block: the sum of all words that it read
    u64 stamps;    // Stamp a block
    u64 fault;
    u32 kind;      // 0 counters, 1 flagged words, 2 counters without payload
    u32 spread;    // counters that share the arrivals
    u32 count;     // edges
    u32 warm;      // edges before the measured ones
};

// What block `block` writes in word `word` for an edge.
DEVICE u32 edge_word(u32 epoch, u32 block, u32 word) {
    return epoch * 0x9e3779b1u + block * 0x85ebca77u + word * 0xc2b2ae3du;
}

// Stores, barrier, one release; acquire by as many threads as there are counters, barrier, loads.
DEVICE u32 edge_counter(const EdgeArguments& edge, u32 epoch, u32 thread, u32 id) {
    const u32 blocks = gridDim.x;
    const u64 buffer = edge.payload + (epoch & 1) * (u64)(blocks * EDGE_THREADS * 4);
    const bool payload = edge.kind == 0;
    if (payload)
        ((u32*)buffer)[blockIdx.x * EDGE_THREADS + thread] = edge_word(epoch, blockIdx.x, thread);
    barrier(id, EDGE_THREADS);
    if (thread == 0) red_release(edge.counters + blockIdx.x % edge.spread * 256, 1);
    if (thread < edge.spread) {
        const u32 arrivals = (blocks - thread + edge.spread - 1) / edge.spread;
        wait_counter(edge.counters + thread * 256, arrivals * epoch, edge.fault);
    }
    barrier(id, EDGE_THREADS);
    return payload ? load_l2(buffer + (thread % blocks * EDGE_THREADS + thread) * 4) : 0;
}

// The data is the flag: a word and its epoch travel in 8 bytes, so that there is nothing to release.
DEVICE u32 edge_flagged(const EdgeArguments& edge, u32 epoch, u32 thread, u32 id) {
    const u32 words = gridDim.x * FLAGGED_WORDS;
    const u64 buffer = edge.payload + (epoch & 1) * (u64)(words * 8);
    if (thread < FLAGGED_WORDS) {
        const u64 word = edge_word(epoch, blockIdx.x, thread);
        store_relaxed_pair(buffer + (blockIdx.x * FLAGGED_WORDS + thread) * 8, word | (u64)epoch << 32);
    }
    u32 sum = 0;
    // All reads of a batch are under way together; only those that came too early are repeated.
    const u32 batch = 8;
    for (u32 first = thread; first < words; first += batch * EDGE_THREADS) {
        u64 seen[batch];
#pragma unroll
        for (u32 j = 0; j < batch; j++) {
            const u32 at = first + j * EDGE_THREADS;
            seen[j] = at < words ? load_relaxed_pair(buffer + at * 8) : (u64)epoch << 32;
        }
        for (u32 polls = 0;;) {
            bool complete = true;
#pragma unroll
            for (u32 j = 0; j < batch; j++)
                if ((u32)(seen[j] >> 32) != epoch) {
                    complete = false;
                    seen[j] = load_relaxed_pair(buffer + (first + j * EDGE_THREADS) * 8);
                }
            if (complete) break;
            if (++polls == POLLS) give_up(edge.fault, WAIT_FLAG);
        }
#pragma unroll
        for (u32 j = 0; j < batch; j++) sum += (u32)seen[j];
    }
    barrier(id, EDGE_THREADS);
    return sum;
}

DEVICE void edges_run(const EdgeArguments& edge, u32 thread, u32 id) {
    Stamp stamp = {};
    u32 sum = 0;
    for (u32 epoch = 1; epoch <= edge.warm + edge.count; epoch++) {
        if (epoch == edge.warm + 1) stamp = stamp_begin();
        sum += edge.kind == 1 ? edge_flagged(edge, epoch, thread, id) : edge_counter(edge, epoch, thread, id);
    }
    if (thread == 0) stamp_end(stamp, edge.count, edge.stamps);
    add_sum(sum, edge.sums + blockIdx.x * 4);
}
