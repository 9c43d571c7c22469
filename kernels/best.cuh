// What a block keeps of the logits that it has computed: of each row the best; or, of a draft that lists its likeliest tokens, those and
// sums of weights instead of the logits. Keys as of order.cuh, in shared.best.
#pragma once
#include "guesses.cuh"
#include "order.cuh"
#include "sync.cuh"
#include "tile_sums.cuh"

// Whether the phase shared.phase.linear keeps the likeliest tokens of its logits: of output row i the call's `listed` at
// shared.best[i * listed].
DEVICE bool keeps_likeliest(const Shared& shared) {
    return HAS_DRAFT && shared.phase.linear.listed != NONE && shared.call.listed > 0;
}

DEVICE u64 key_of_best(const Shared& shared, u32 slot) {
    u64 key;
    asm volatile("ld.relaxed.cta.shared.u64 %0, [%1];" : "=l"(key) : "r"(shared_address(shared.best + slot)) : "memory");
    return key;
}

// shared.best[token] = the largest of itself and these 16 logits: the ordered logit above, ~column below, so that of equal
// logits the smallest column stays.
DEVICE void keep_best(Shared& shared, u32 r, u32 column, u32 token, float logit, bool live) {
    const u32 key = live ? ordered(finite_logit(logit)) : 0;
    // Few logits are larger than all before them.
    const u64 before = key_of_best(shared, token);
    if (!__any_sync(ALL_LANES, live && ((u64)key << 32 | ~column) > before)) return;
    u32 largest = key;
#pragma unroll
    for (u32 distance = 8; distance > 0; distance /= 2)
        largest = larger(largest, __shfl_xor_sync(ALL_LANES, largest, distance));
    const u32 equal = __ballot_sync(ALL_LANES, key == largest) >> (threadIdx.x & 16) & 0xffff;
    if (live && r == (u32)__ffs(equal) - 1) atomicMax(&shared.best[token], (u64)key << 32 | ~column);
}

// The `wanted` largest keys that any thread has seen are at shared.best[first...], the largest first. A slot only grows: it keeps the
// larger of its key and the one that comes, and the other goes on to the next slot. So in the end each has the largest of those that
// all before it have left, whoever came when.
DEVICE void keep_likely(Shared& shared, u32 first, u32 wanted, u64 key) {
    const u32 end = first + wanted;
    if (key <= key_of_best(shared, end - 1)) return;
    u32 slot = first;
#pragma unroll 1
    while (slot < end && key_of_best(shared, slot) > key) slot++;
#pragma unroll 1
    for (; slot < end && key > 0; slot++) key = smaller(atomicMax(&shared.best[slot], key), key);
}

// Keeps of the 16 logits of a tile what a list is made of. `column`: of the lane's logit; 16 lanes that follow each other have a tile,
// in any order. By whole warps.
DEVICE_CALL void keep_tile(const Program& program, Shared& shared, u32 column, u32 token, float y, bool live) {
    const LinearPhase& phase = shared.phase.linear;
    const u32 wanted = shared.call.listed;
    const float logit = live ? finite_logit(__fmul_rn(y, program.logit_scale)) : MINUS_INFINITY;
    if (logit > MINUS_INFINITY) keep_likely(shared, token * wanted, wanted, key_of(logit, column));
    // Lanes are together again.
    __syncwarp();
    const u64 sum = sum_of_tile(weight_of(logit), 8);
    if (live && column % TILE_ROWS == 0)
        *(u64*)tile_sum(program.workspace + phase.listed, phase.output_columns, token, column / TILE_ROWS) = sum;
}

// Keys of nothing. By all consumers; nobody may keep any.
DEVICE void begin_best(Shared& shared) {
    if (threadIdx.x < ROW_LIMIT) shared.best[threadIdx.x] = 0;
}

// What was kept, after a barrier behind the last of it: best[row][block], or the keys of lists. By all consumers. A call, as registers
// over all phases would hold its addresses.
DEVICE_CALL void store_best(const Program& program, const Shared& shared) {
    const u32 row = threadIdx.x;
    if (keeps_likeliest(shared)) {
        if (row < ROW_LIMIT) *(u64*)listed_key(program.workspace + shared.phase.linear.listed, blockIdx.x, row) = shared.best[row];
        return;
    }
    if (row < shared.call.output_rows)
        *(u64*)(program.workspace + shared.phase.linear.best + ((u64)row * gridDim.x + blockIdx.x) * 8) = shared.best[row];
}
