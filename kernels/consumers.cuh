// What the 256 consumers of a block compute together: reductions, sums in buckets, lists. Every function here is called
// by all of them. Here and in what chooses tokens, loops that run a few times are not unrolled: copies of them would
// take registers from the passes over the vocabulary, whose loads need them.
#pragma once
#include "program.cuh"
#include "sync.cuh"

// Parts of the region of partials while tokens are chosen.
#define BOARD_AT PARTIALS_AT              // u64 [16]: a value of each warp, then results
#define PATH_AT (PARTIALS_AT + 128u)      // see penalties.cuh
#define CHUNK_AT (PARTIALS_AT + 2048u)    // Bias [CHUNK_ENTRIES], see adjust.cuh; or TOP_LIMIT keys, see logprobs.cuh
#define CHUNK_ENTRIES 1024u
#define BOARD_RESULT 8u
#define BOARD_LIST 10u

// Buckets in the region of scratch: u64 [BUCKETS].
#define BUCKETS 2048u
#define BUCKETS_OF_THREAD (BUCKETS / CONSUMER_THREADS)
static_assert(SCRATCH_BYTES >= BUCKETS * 8, "room for the buckets");
static_assert(PARTIAL_BYTES >= 2048 + CHUNK_ENTRIES * 8, "room for what choices are made of");

DEVICE void consumers_meet() { barrier(CONSUMER_BARRIER, CONSUMER_THREADS); }

// Shared address of a region.
DEVICE u32 region(const Shared& shared, u32 at) { return shared_address(&shared) - SHARED_AT + at; }

DEVICE u32 shared_word(u32 address) {
    u32 value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
    return value;
}
DEVICE void set_shared_word(u32 address, u32 value) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
DEVICE u64 shared_long(u32 address) {
    u64 value;
    asm volatile("ld.shared.u64 %0, [%1];" : "=l"(value) : "r"(address) : "memory");
    return value;
}
DEVICE void set_shared_long(u32 address, u64 value) {
    asm volatile("st.shared.u64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
}
// Returns what was there.
DEVICE u32 add_shared_word(u32 address, u32 value) {
    u32 before;
    asm volatile("atom.shared.add.u32 %0, [%1], %2;" : "=r"(before) : "r"(address), "r"(value) : "memory");
    return before;
}
DEVICE void or_shared_word(u32 address, u32 value) {
    asm volatile("red.shared.or.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
// In two halves: shared memory has no addition of 64 bits, only a loop of exchanges. The sum is right once all have
// added.
DEVICE void add_shared_long(u32 address, u64 value) {
    const u32 low = (u32)value;
    const u32 before = add_shared_word(address, low);
    const u32 high = (u32)(value >> 32) + (before + low < before);
    if (high) add_shared_word(address + 4, high);
}

DEVICE void store_long(u64 address, u64 value) { *(u64*)address = value; }

// The combination of all threads' values, for all of them. Calls, like what else stands in many places here: ptxas takes longer
// for each copy, and a device to fetch it, than the calls take.
template <typename Combine> DEVICE u64 reduce(Shared& shared, u64 value, Combine combine) {
    for (u32 distance = 16; distance > 0; distance >>= 1)
        value = combine(value, __shfl_xor_sync(ALL_LANES, value, distance));
    const u32 board = region(shared, BOARD_AT);
    // Who still reads the board comes first.
    consumers_meet();
    if (threadIdx.x % 32 == 0) set_shared_long(board + threadIdx.x / 32 * 8, value);
    // Orders the warps' values before they are read.
    consumers_meet();
    u64 all = shared_long(board);
#pragma unroll 1
    for (u32 warp = 1; warp < CONSUMER_WARPS; warp++) all = combine(all, shared_long(board + warp * 8));
    return all;
}
DEVICE_CALL u64 reduce_max(Shared& shared, u64 value) {
    return reduce(shared, value, [](u64 a, u64 b) { return larger(a, b); });
}
DEVICE_CALL u64 reduce_min(Shared& shared, u64 value) {
    return reduce(shared, value, [](u64 a, u64 b) { return smaller(a, b); });
}
DEVICE_CALL u64 reduce_sum(Shared& shared, u64 value) {
    return reduce(shared, value, [](u64 a, u64 b) { return a + b; });
}

// Zeroes the buckets, which nobody reads any more: find_boundary ends with a barrier.
DEVICE void clear_buckets(Shared& shared) {
    const u32 buckets = region(shared, SCRATCH_AT);
    for (u32 i = threadIdx.x; i < BUCKETS; i += CONSUMER_THREADS) set_shared_long(buckets + i * 8, 0);
    // Orders the zeros before additions.
    consumers_meet();
}

// The bucket in which the sum from bucket 0 on reaches `target`, and the sum before it; bucket BUCKETS: it never does.
struct Boundary {
    u32 bucket;
    u64 before;
};

DEVICE_CALL Boundary find_boundary(Shared& shared, u64 target) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 board = region(shared, BOARD_AT);
    const u32 own = region(shared, SCRATCH_AT) + threadIdx.x * BUCKETS_OF_THREAD * 8;
    // Orders additions before the buckets are read, and readers of the board before its writers.
    consumers_meet();
    u64 sum = 0;
#pragma unroll 1
    for (u32 i = 0; i < BUCKETS_OF_THREAD; i++) sum += shared_long(own + i * 8);
    u64 through = sum;
    for (u32 distance = 1; distance < 32; distance <<= 1) {
        const u64 other = __shfl_up_sync(ALL_LANES, through, distance);
        if (lane >= distance) through += other;
    }
    if (lane == 31) set_shared_long(board + warp * 8, through);
    if (threadIdx.x == 0) set_shared_long(board + BOARD_RESULT * 8, BUCKETS);
    // Orders the warps' sums before they are read, and the default before the result.
    consumers_meet();
    u64 before = through - sum;
#pragma unroll 1
    for (u32 other = 0; other < warp; other++) before += shared_long(board + other * 8);
    if (before < target && before + sum >= target) {
        u32 bucket = threadIdx.x * BUCKETS_OF_THREAD;
        for (u32 address = own;; address += 8, bucket++) {
            const u64 here = shared_long(address);
            if (before + here >= target) break;
            before += here;
        }
        set_shared_long(board + BOARD_RESULT * 8, bucket);
        set_shared_long(board + BOARD_RESULT * 8 + 8, before);
    }
    // Orders the result before it is read.
    consumers_meet();
    Boundary boundary;
    boundary.bucket = (u32)shared_long(board + BOARD_RESULT * 8);
    boundary.before = boundary.bucket < BUCKETS ? shared_long(board + BOARD_RESULT * 8 + 8) : 0;
    return boundary;
}

// A list of keys in the workspace that all threads append to, in no particular order. One at a time: there is a barrier
// between asking for the length of one and beginning the next.
struct List {
    u64 keys;     // u64 []
    u32 counter;  // shared address
};

DEVICE List empty_list(Shared& shared, u64 keys) {
    const u32 counter = region(shared, BOARD_AT) + BOARD_LIST * 8;
    if (threadIdx.x == 0) set_shared_word(counter, 0);
    // Orders the zero before additions.
    consumers_meet();
    return {keys, counter};
}

// Appends those of four keys that are not 0. By whole warps; one addition for each.
DEVICE void append(const List& list, u64 a, u64 b, u64 c, u64 d) {
    if (!__any_sync(ALL_LANES, (a | b | c | d) != 0)) return;
    const u32 has_a = __ballot_sync(ALL_LANES, a != 0), has_b = __ballot_sync(ALL_LANES, b != 0);
    const u32 has_c = __ballot_sync(ALL_LANES, c != 0), has_d = __ballot_sync(ALL_LANES, d != 0);
    const u32 lane = threadIdx.x % 32, before = (1u << lane) - 1;
    u32 at = 0;
    if (lane == 0) at = add_shared_word(list.counter, __popc(has_a) + __popc(has_b) + __popc(has_c) + __popc(has_d));
    at = __shfl_sync(ALL_LANES, at, 0);
    if (a) store_long(list.keys + 8ull * (at + __popc(has_a & before)), a);
    at += __popc(has_a);
    if (b) store_long(list.keys + 8ull * (at + __popc(has_b & before)), b);
    at += __popc(has_b);
    if (c) store_long(list.keys + 8ull * (at + __popc(has_c & before)), c);
    at += __popc(has_c);
    if (d) store_long(list.keys + 8ull * (at + __popc(has_d & before)), d);
}

// How many there are, after all have appended.
DEVICE u32 list_length(const List& list) {
    // Orders the keys and their count before they are read.
    consumers_meet();
    return shared_word(list.counter);
}
