// Runs the attention phase of calls one after the other, as a program would.
#include "attention.cuh"

struct Given {
    Program program;
    u64 calls;  // Call
    u32 count;
};

KERNEL __launch_bounds__(THREADS, 1) phase(const __grid_constant__ Given given) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    if (threadIdx.x >= CONSUMER_THREADS) return;
    for (u32 i = 0; i < given.count; i++) {
        const u64 call = given.calls + (u64)i * sizeof(Call), phase = given.program.phases + (u64)i * sizeof(Phase);
        // Nobody reads the copies of the call before any more.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        for (u32 word = threadIdx.x; word < sizeof(Call) / 4; word += CONSUMER_THREADS)
            ((u32*)&shared.call)[word] = load_constant(call + word * 4);
        for (u32 word = threadIdx.x; word < sizeof(Phase) / 4; word += CONSUMER_THREADS)
            ((u32*)&shared.phase)[word] = load_constant(phase + word * 4);
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        attention<INSTANCE>(given.program, shared);
    }
}
