// Times of phases, for profiles: when a block begins to wait for a phase's edge, when the edge is passed, when the phase is
// done, and how long its first warp waited for weights meanwhile. Nanoseconds of %globaltimer, which all SMs share.
//
// Program::timers is 0 (then nothing is written, and each place below is a branch that all threads take alike), or the address
// of
//
//   TimerHead
//   TimedCall [capacity]
//   Stamp     [capacity][phases][block]
//
// all 0 when a generation begins. Call number `round` of a generation has place `round`; calls from `capacity` on are not timed.
// Thread 0 of a block writes the block's stamps, and that of block 0 what the call was.
#pragma once
#include "program.cuh"

struct TimerHead {
    u32 capacity;  // calls
    u32 phases;    // of the longest segment
    u32 unused[2];
};

struct TimedCall {
    u32 segment;
    u32 rows;  // 0: there was no such call
    u32 output_rows;
    u32 length;  // positions before the call
};

struct Stamp {
    u64 begin;    // the phase before is done
    u64 ready;    // the edge is passed; 0 if the block waited for none
    u64 end;
    u64 stalled;  // of the time between: the first warp waited for weights
};
static_assert(sizeof(TimerHead) == 16 && sizeof(TimedCall) == 16 && sizeof(Stamp) == 32, "as in abi.rs");

DEVICE u64 stamp_of(const Program& program, const Shared& shared) {
    return shared.stamps + ((u64)shared.index * gridDim.x + blockIdx.x) * sizeof(Stamp);
}

DEVICE void store_time(u64 address, u64 value) { *(u64*)address = value; }

// By thread 0, after call number `round` is read.
DEVICE void time_call(const Program& program, Shared& shared, u32 round) {
    if (program.timers == 0) return;
    const TimerHead& head = *(const TimerHead*)program.timers;
    shared.stamps = 0;
    if (round >= head.capacity) return;
    const u64 calls = program.timers + sizeof(TimerHead);
    const u64 stamps = calls + (u64)head.capacity * sizeof(TimedCall);
    shared.stamps = stamps + (u64)round * head.phases * gridDim.x * sizeof(Stamp);
    if (blockIdx.x != 0) return;
    const Call& call = shared.call;
    *(TimedCall*)(calls + (u64)round * sizeof(TimedCall)) = {call.segment, call.rows, call.output_rows, call.length};
}

// When phase shared.index begins. `ready` and `stalled` are kept in shared memory until it ends.
DEVICE void time_begin(const Program& program, Shared& shared) {
    if (program.timers == 0 || threadIdx.x != 0) return;
    shared.ready = shared.stalled = 0;
    if (shared.stamps) store_time(stamp_of(program, shared) + OFFSET_OF(Stamp, begin), nanoseconds());
}

// When its edge is passed.
DEVICE void time_ready(const Program& program) {
    if (program.timers == 0 || threadIdx.x != 0) return;
    ((Shared*)shared_region(SHARED_AT))->ready = nanoseconds();
}

// Around a wait for weights. No register holds the time meanwhile: differences wrap around.
DEVICE void time_stall(const Program& program, Shared& shared, bool begins) {
    if (program.timers == 0 || threadIdx.x != 0) return;
    const u64 now = nanoseconds();
    shared.stalled += begins ? 0 - now : now;
}

// When it is done.
DEVICE void time_end(const Program& program, Shared& shared) {
    if (program.timers == 0 || threadIdx.x != 0 || shared.stamps == 0) return;
    const u64 stamp = stamp_of(program, shared);
    store_time(stamp + OFFSET_OF(Stamp, ready), shared.ready);
    store_time(stamp + OFFSET_OF(Stamp, end), nanoseconds());
    store_time(stamp + OFFSET_OF(Stamp, stalled), shared.stalled);
}
