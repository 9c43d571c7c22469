// The weight ring. A block's weights of a call are a *tape*: stages in the order in which its warps consume them, each a piece of
// the arena. They are copied into a ring of shared memory long before they are wanted; the warp that is the last to have read a
// stage starts at once the copy that takes its place. So the ring is always asked for as much as it holds, whatever the phases
// wait for, and memory stays busy across every edge; and where it is known what follows a call, it runs on into the next one.
//
// Stage s of the ring has an mbarrier, `full`, that its copy completes, and a counter, `released`, of the warps that have read
// it. With the data comes the record of the copy that will take its place STAGES stages later.
//
// Blocks of a span lie in the order group, chunk, tile (see stheno-codegen's layout). A pass over a span takes `width` tiles of a
// group at a time: all of them where their accumulators fit, fewer for wide calls. A stage holds whole blocks of equal size that
// follow each other in the arena; it ends where that run ends: for full width with the full chunks of the group and with its
// short last chunk, for less with every chunk. codegen/src/program/tapes.rs makes the tapes so; Reader walks the same way.
#pragma once
#include "copies.cuh"
#include "edges.cuh"
#include "mbarrier.cuh"
#include "program.cuh"

// Bytes of a tile's part of a chunk, for a format F (see formats.cuh): elements, then scales.
template <typename F> DEVICE u32 block_bytes(u32 columns) {
    return TILE_ROWS * columns * F::BITS / 8 + F::groups(columns) * F::GROUP_BYTES;
}

// By one thread before the block's first barrier.
DEVICE void ring_init(Shared& shared) {
    for (u32 stage = 0; stage < STAGES; stage++) {
#if __CUDA_ARCH__ >= 900
        mbarrier_init(shared_address(shared.full + stage), 1);
#else
        mbarrier_init(shared_address(shared.full + stage), 32);
#endif
        shared.released[stage] = 0;
    }
    shared.ahead = 0;
    for (u32 warp = 0; warp < CONSUMER_WARPS; warp++)
        for (u32 word = 0; word < 3; word++) shared.readers[warp][word] = 0;
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

// Starts the copy of stage `item` of the tape, which `record` describes, to stage `stage` of the ring. By a whole warp; nobody
// reads the stage any more.
DEVICE void fill_stage(const Program& program, Shared& shared, u32 stage, u32 item, const Stage record) {
    // Orders the lanes' reads of the record before the copy that overwrites it.
    __syncwarp();
    const u32 full = shared_address(shared.full + stage);
    const u32 to = shared_address(shared_region(stage * STAGE_BYTES)), note = shared_address(shared.records + stage);
    const u64 successor = stage_address(shared, item + STAGES);
    const u32 lane = threadIdx.x % 32;
#if __CUDA_ARCH__ >= 900
    // Only copies write this memory, so nothing has to be ordered but the reads before them, which the counter of releases does.
    if (lane == 0) {
        arrive_expecting(full, record.bytes + sizeof(Stage));
        copy_bulk(to, program.arena + record.offset, record.bytes, full);
        copy_bulk(note, successor, sizeof(Stage), full);
    }
    __syncwarp();
#else
    for (u32 at = lane * 16; at < record.bytes; at += 512) copy_16(to + at, program.arena + record.offset + at);
    if (lane == 0) copy_16(note, successor);
    arrive_after_copies(full);
#endif
}

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
    for (u32 polls = 1; !mbarrier_test(full, parity);)
        if (++polls == program.patience) give_up(program.host, WAIT_FULL, stage, parity);
    time_stall(program, shared, false);
}

// After a warp has read stage `item` of the tape in stage `stage` of the ring. The last warp starts the next copy to it, if that is
// of a stage below `limit`.
DEVICE_CALL void release_stage(const Program& program, Shared& shared, u32 stage, u32 item, u32 limit) {
    // Orders the reads of all lanes before the release below.
    __syncwarp();
    u32 before = 0;
    // Counts to CONSUMER_WARPS and begins again. Orders this warp's reads before, and all other warps' too for the last one, the
    // copy that overwrites what they read.
    if (threadIdx.x % 32 == 0)
        asm volatile("atom.acq_rel.cta.shared.inc.u32 %0, [%1], %2;"
                     : "=r"(before)
                     : "r"(shared_address(shared.released + stage)), "n"(CONSUMER_WARPS - 1)
                     : "memory");
    before = __shfl_sync(ALL_LANES, before, 0);
    if (before != CONSUMER_WARPS - 1 || item + STAGES >= limit) return;
    const bool is_told = item >= shared.early || item + STAGES < shared.tape_stages;
    fill_stage(program, shared, stage, item + STAGES, is_told ? shared.records[stage] : load_stage(shared, item + STAGES));
}

// Where a consumer warp reads. All warps of a block go the same way.
struct Reader {
    u32 stage, parity;  // of the ring
    u32 item;           // of the tape: the stage that it reads
    u32 index;          // in the stage: the next block
    u32 fit;            // blocks of a stage
    u32 left;           // blocks of the run

    METHOD void begin_run(u32 blocks, u32 bytes) {
        index = 0;
        fit = STAGE_BYTES / bytes;
        left = blocks;
    }

    METHOD void wait(const Program& program, Shared& shared) const {
        const u32 full = shared_address(shared.full + stage);
        if (!mbarrier_test(full, parity)) wait_stage(program, shared, stage, parity);
    }

    // The block's shared address, once it has arrived.
    METHOD u32 open(const Program& program, Shared& shared, u32 bytes) const {
        if (index == 0) wait(program, shared);
        return shared_address(shared_region(stage * STAGE_BYTES)) + index * bytes;
    }

    // After the warp has read the block.
    METHOD void close(const Program& program, Shared& shared) {
        left--;
        if (++index == fit || left == 0) release(program, shared, shared.limit);
    }

    // After the warp has read the stage.
    METHOD void release(const Program& program, Shared& shared, u32 limit) {
        release_stage(program, shared, stage, item, limit);
        item++;
        index = 0;
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// A warp's place rests in shared memory between its products, where it takes no registers.
DEVICE Reader take_reader(const Shared& shared) {
    const u32* const words = shared.readers[threadIdx.x / 32];
    return {words[0], words[1], words[2], 0, 0, 0};
}
DEVICE void keep_reader(Shared& shared, const Reader& reader) {
    // Orders the reads of all lanes before they are overwritten.
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        u32* const words = shared.readers[threadIdx.x / 32];
        words[0] = reader.stage;
        words[1] = reader.parity;
        words[2] = reader.item;
    }
    // Orders the words before all lanes read them again.
    __syncwarp();
}

// Waits for and gives back, unread, the stages that were fetched ahead for a call that does not come.
DEVICE void drop_ahead(const Program& program, Shared& shared) {
    Reader reader = take_reader(shared);
    for (u32 dropped = 0; dropped < shared.ahead; dropped++) {
        reader.wait(program, shared);
        reader.release(program, shared, 0);
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
    if (threadIdx.x >= 32) return;
    for (u32 item = ahead; item < smaller(STAGES, limit); item++)
        fill_stage(program, shared, (reader.stage + item) % STAGES, item, load_stage(shared, item));
}
