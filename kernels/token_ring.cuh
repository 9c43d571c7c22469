// What the host sees of a generation while it runs: memory of its own that is mapped for the kernel. There is an entry for
// every token that a generation can have, so nothing is ever overwritten and nobody waits for the host.
#pragma once
#include "control.cuh"
#include "edges.cuh"
#include "program.cuh"
#include "sync.cuh"

struct HostToken {
    u32 token;
    u32 draft;     // bit 0: it had been guessed; from 1 on: tokens guessed in its call; from 8 on: levels of their tree; bit 15: it is
                   // of a round, not of the prompt
    float logprob;
    u32 round;     // calls of this generation so far
};

struct HostRing {
    Fault fault;
    u32 cancel;    // set by the host
    u32 finish;    // Finish, released after the last tail
    u32 tail;      // tokens of this generation: released after their entries
    u32 length;    // positions whose K and V are valid
    u32 capacity;  // entries, written by the host
    u32 draft_length;  // positions whose K and V the draft has
    u32 unused[18];
    // HostToken [capacity], then TopLogprob [capacity][TOP_LIMIT] if log-probabilities are asked for, then HostRound [capacity] if
    // rounds are.
};

struct HostNode {
    u32 token;
    u32 parent;  // NONE: the root
    float score;
    u32 unused;
};

// A tree that was verified.
struct HostRound {
    u32 nodes;
    u32 unused[3];
    HostNode node[ROW_LIMIT];
};
// As src/device/state.rs names its words.
static_assert(sizeof(HostRing) == 128 && sizeof(HostToken) == 16 && sizeof(HostRound) == 1040, "HostRing");
static_assert(OFFSET_OF(HostRing, cancel) == 4 * 8 && OFFSET_OF(HostRing, finish) == 4 * 9, "HostRing");
static_assert(OFFSET_OF(HostRing, tail) == 4 * 10 && OFFSET_OF(HostRing, length) == 4 * 11, "HostRing");
static_assert(OFFSET_OF(HostRing, capacity) == 4 * 12, "HostRing");
static_assert(OFFSET_OF(HostRing, draft_length) == 4 * 13, "HostRing");

DEVICE u64 ring_entry(u64 host, u32 index) { return host + sizeof(HostRing) + (u64)index * sizeof(HostToken); }

DEVICE u64 ring_top(u64 host, u32 capacity, u32 index) {
    return ring_entry(host, capacity) + (u64)index * (TOP_LIMIT * sizeof(TopLogprob));
}

DEVICE u64 ring_round(u64 host, u32 capacity, bool has_lists, u32 index) {
    return ring_top(host, capacity, has_lists ? capacity : 0) + (u64)index * sizeof(HostRound);
}

#define HOST_WORD(program, field) ((program).host + OFFSET_OF(HostRing, field))

DEVICE void ring_put(const Program& program, u32 index, const HostToken& entry) {
    const u64 at = ring_entry(program.host, index);
    store_relaxed_system(at, entry.token);
    store_relaxed_system(at + 4, entry.draft);
    store_relaxed_system(at + 8, bits_of(entry.logprob));
    store_relaxed_system(at + 12, entry.round);
}

// The host that has read the tail sees every entry before it and the lengths. Finish comes last: who has read it sees the
// last tail.
DEVICE void ring_release(const Program& program, const Generation& generation) {
    store_relaxed_system(HOST_WORD(program, length), generation.length);
    store_relaxed_system(HOST_WORD(program, draft_length), generation.draft_length);
    store_release_system(HOST_WORD(program, tail), generation.known - generation.begin);
    if (generation.finish != FINISH_NONE) store_release_system(HOST_WORD(program, finish), generation.finish);
}
