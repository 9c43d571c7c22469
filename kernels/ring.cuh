// The weight ring. A block's weights of a call are a *tape*: stages in the order in which its warps consume them, each a piece of
// the arena. They are copied into a ring of shared memory long before they are wanted; the warp that is the last to have read a
// stage starts at once the copy that takes its place. So the ring is always asked for as much as it holds, whatever the phases
// wait for, and memory stays busy across every edge; and where it is known what follows a call, it runs on into the next one.
//
// Stage s of the ring has two mbarriers: `full`, which its copy completes, and `empty`, at which the warps arrive when they have
// read it. They take turns at filling stages again: were it the last one to read that does, it would be last again the next time.
// With the data comes the record of the copy that will take its place STAGES stages later.
//
// Blocks of a span lie in the order group, chunk, tile (see stheno-codegen's layout): groups of TILE_GROUP tiles, and what is left
// at the end in ever smaller powers of two. A stage is what warps multiply without looking up: UNIT blocks of a format, or fewer.
// Of a group of more tiles it has UNIT tiles of one chunk, of one of fewer all tiles of as many full chunks as make UNIT blocks.
// The short last chunk, and each chunk where a wide call takes a group in parts, has stages of its own.
// codegen/src/program/tapes.rs makes the tapes so.
#pragma once
#include "copies.cuh"
#include "edges.cuh"
#include "mbarrier.cuh"
#include "program.cuh"

// Bytes of a tile's part of a chunk, for a format F (see formats.cuh): elements, then scales.
template <typename F> CONSTANT u32 block_bytes(u32 columns) {
    return TILE_ROWS * columns * F::BITS / 8 + F::groups(columns) * F::GROUP_BYTES;
}

// Blocks of a full stage: as many as fit, a power of two, at most 4.
template <typename F> CONSTANT u32 unit_of() {
    const u32 fit = STAGE_BYTES / block_bytes<F>(CHUNK);
    return fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

// Tiles of the group that begins where `left` tiles are left of a span.
DEVICE u32 group_of(u32 left) { return smaller(TILE_GROUP, 1u << (31 - __clz(left))); }

// Stages after which a warp fills one again that it is its turn for: by then the others have read it, mostly, and longer a stage
// should not be empty. Less than there are stages, or it would wait for itself.
#define REFILL_AFTER 1u
static_assert(STAGES >= 2, "a ring of one stage cannot go on");

// By one thread before the block's first barrier.
DEVICE void ring_init(Shared& shared) {
#pragma unroll 1
    for (u32 stage = 0; stage < STAGES; stage++) {
#if __CUDA_ARCH__ >= 900
        mbarrier_init(shared_address(shared.full + stage), 1);
#else
        mbarrier_init(shared_address(shared.full + stage), 32);
#endif
        mbarrier_init(shared_address(shared.empty + stage), CONSUMER_WARPS);
    }
    mbarrier_init(shared_address(&shared.summed), CONSUMER_WARPS);
    shared.ahead = 0;
#pragma unroll 1
    for (u32 warp = 0; warp < CONSUMER_WARPS; warp++)
        for (u32 word = 0; word < 4; word++) shared.readers[warp][word] = 0;
    mbarrier_init_fence();
}

// Where the record of stage `item` lies: of the call's tape, and past its end of the next one's. Past the end of both, any record.
DEVICE u64 stage_address(const Shared& shared, u32 item) {
    if (item < shared.tape_stages) return shared.tape + (u64)item * sizeof(Stage);
    const u32 next = item - shared.tape_stages;
    return next < shared.next_stages ? shared.next_tape + (u64)next * sizeof(Stage) : shared.tape;
}

DEVICE Stage load_stage(const Shared& shared, u32 item) {
    const uint4 words = load_constant_vector(stage_address(shared, item));
    return {(u64)words.y << 32 | words.x, words.z, words.w};
}

// Starts the copy of stage `item` of the tape, which `record` describes, to stage `stage` of the ring. Nobody reads the stage any
// more. From sm_90 on by one thread, else by a whole warp.
DEVICE void fill_stage(Shared& shared, u32 stage, u32 item, const Stage record) {
    const u32 full = shared_address(shared.full + stage);
    const u32 to = shared_address(shared_region(stage * STAGE_BYTES)), note = shared_address(shared.records + stage);
    const u64 successor = stage_address(shared, item + STAGES);
#if __CUDA_ARCH__ >= 900
    // Only copies write this memory, so nothing has to be ordered but the reads before them, which `empty` does.
    arrive_expecting(full, record.bytes + sizeof(Stage));
    copy_bulk_once(to, shared.arena + record.offset, record.bytes, full);
    copy_bulk(note, successor, sizeof(Stage), full);
#else
    const u32 lane = threadIdx.x % 32;
    // Orders the lanes' reads of the record before the copy that overwrites it.
    __syncwarp();
    for (u32 at = lane * 16; at < record.bytes; at += 512) copy_16(to + at, shared.arena + record.offset + at);
    if (lane == 0) copy_16(note, successor);
    arrive_after_copies(full);
#endif
}

// Threads of warp 0, or of the last warp to read a stage, that fill it.
#if __CUDA_ARCH__ >= 900
#define FILLERS 1u
#else
#define FILLERS 32u
#endif

// Which stages a call's products consume, for a block.
struct Tape {
    u64 stages;  // address of Stage [count]
    u32 count;
};

// What is once for a stage is called: copies of it in every tile of the products, which are unrolled, would be most of their code,
// to compile and to fetch.

// Waits for a stage that has not arrived yet.
DEVICE_CALL void wait_stage(const Program& program, Shared& shared, u32 stage, u32 parity) {
    const u32 full = shared_address(shared.full + stage);
    time_stall(program, shared, true);
    for (u32 polls = 1; !mbarrier_try(full, parity);)
        if (++polls == program.patience) give_up(program.host, WAIT_FULL, stage, parity);
    time_stall(program, shared, false);
}

// Starts the copy that takes the place of stage `item` of the tape in stage `stage` of the ring, once all warps have read it;
// `state` is what the warp found when it arrived. By a whole warp.
DEVICE_CALL void refill_stage(const Program& program, Shared& shared, u32 stage, u32 item, u64 state) {
    if (item + STAGES >= shared.limit) return;
    if (threadIdx.x % 32 == 0) {
        // Orders all warps' reads before the copy that overwrites what they read.
        for (u32 polls = 1; !mbarrier_over(shared_address(shared.empty + stage), state);)
            if (++polls == program.patience) give_up(program.host, WAIT_EMPTY, stage, item);
    }
    // The same for copies by the other lanes.
    __syncwarp();
    if (threadIdx.x % 32 >= FILLERS) return;
    const bool is_told = item >= shared.early || item + STAGES < shared.tape_stages;
    fill_stage(shared, stage, item + STAGES, is_told ? shared.records[stage] : load_stage(shared, item + STAGES));
}

// Where a consumer warp reads. All warps of a block go the same way.
struct Reader {
    u32 stage, parity;  // of the ring
    u32 item;           // of the tape: the stage that it reads
    u32 passes;         // of products whose sums were exchanged in turns, see linear.cuh
    u32 due;            // stages to read until it fills one again; 0: it has none to fill
    u64 state;          // of lane 0: what it found at that one's `empty`

    // The stage's shared address, once it has arrived.
    METHOD u32 open(const Program& program, Shared& shared) const {
        const u32 full = shared_address(shared.full + stage);
        if (!mbarrier_test(full, parity)) wait_stage(program, shared, stage, parity);
        return shared_address(shared_region(stage * STAGE_BYTES));
    }

    // After the warp has read the stage.
    METHOD void close(const Program& program, Shared& shared) {
        // Orders the reads of all lanes before lane 0 arrives for them.
        __syncwarp();
        u64 found = 0;
        if (threadIdx.x % 32 == 0) found = mbarrier_arrive(shared_address(shared.empty + stage));
        item++;
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
        if (due > 0 && --due == 0) fill(program, shared, REFILL_AFTER);
        if ((item - 1) % CONSUMER_WARPS == threadIdx.x / 32) {
            due = REFILL_AFTER;
            state = found;
        }
    }

    // Fills what the warp would fill later: it will read nothing for a while.
    METHOD void settle(const Program& program, Shared& shared) {
        if (due == 0) return;
        fill(program, shared, REFILL_AFTER - due);
        due = 0;
    }

  private:
    // `after`: stages read since.
    METHOD void fill(const Program& program, Shared& shared, u32 after) const {
        const u32 back = after + 1;
        refill_stage(program, shared, stage >= back ? stage - back : stage + STAGES - back, item - back, state);
    }

};

// A warp's place rests in shared memory between its products, where it takes no registers.
DEVICE Reader take_reader(const Shared& shared) {
    const u32* const words = shared.readers[threadIdx.x / 32];
    return {words[0], words[1], words[2], words[3], 0, 0};
}
// Everything must be settled.
DEVICE void keep_reader(Shared& shared, const Reader& reader) {
    // Orders the reads of all lanes before they are overwritten.
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        u32* const words = shared.readers[threadIdx.x / 32];
        words[0] = reader.stage;
        words[1] = reader.parity;
        words[2] = reader.item;
        words[3] = reader.passes;
    }
    // Orders the words before all lanes read them again.
    __syncwarp();
}

// Waits for and gives back, unread, the stages that were fetched ahead for a call that does not come.
DEVICE void drop_ahead(const Program& program, Shared& shared) {
    Reader reader = take_reader(shared);
    for (u32 dropped = 0; dropped < shared.ahead; dropped++) {
        reader.open(program, shared);
        reader.close(program, shared);
        // No copy takes its place.
        reader.due = 0;
    }
    keep_reader(shared, reader);
    // All have read `ahead` before it changes.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x == 0) shared.ahead = 0;
    // The 0, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}

// By all consumers when a call begins that the tape is for; `expected` is the next call's, with no stages if nobody knows. What was
// fetched ahead for the call is in the ring already; the rest is started. Warps may still be in the last call's final barrier, no
// further behind.
DEVICE void begin_tape(const Program& program, Shared& shared, const Tape& tape, const Tape& expected) {
    if (shared.ahead > 0 && (tape.stages != shared.next_tape || tape.count != shared.next_stages)) drop_ahead(program, shared);
    const u32 limit = tape.count + expected.count;
    const u32 ahead = shared.ahead;
    // All have read `ahead`, and nobody the words of the last tape any more, before they change.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x == 0) {
        shared.arena = program.arena;
        shared.tape = tape.stages;
        shared.tape_stages = tape.count;
        shared.next_tape = expected.stages;
        shared.next_stages = expected.count;
        shared.limit = limit;
        shared.early = ahead;
        // At the end of the call: all that fits of the next one.
        shared.ahead = smaller(STAGES, expected.count);
    }
    // The words, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    Reader reader = take_reader(shared);
    reader.item = 0;
    keep_reader(shared, reader);
    if (threadIdx.x >= FILLERS) return;
    for (u32 item = ahead; item < smaller(STAGES, limit); item++)
        fill_stage(shared, (reader.stage + item) % STAGES, item, load_stage(shared, item));
}
