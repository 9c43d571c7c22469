// What a draft has to say after a row: its likeliest tokens and the logarithms of their probabilities, the same bits as stheno's
// speculation::sampling::likeliest.
#pragma once
#include "best.cuh"
#include "choose.cuh"

// What none of the `wanted` largest keys of a row is below: of the blocks' best ones, which load(block) gives, the `wanted`th; 0 if there
// are fewer. So few are left to be put in order.
template <typename Load> DEVICE u64 bound_of(Shared& shared, u32 wanted, Load load) {
    const u32 keys = region(shared, SCRATCH_AT);
    for (u32 block = threadIdx.x; block < gridDim.x; block += CONSUMER_THREADS) set_shared_long(keys + block * 8, load(block));
    // The keys, to all; and the zeros that lists begin with.
    consumers_meet();
    u64 bound = 0;
#pragma unroll 1
    for (u32 block = threadIdx.x; block < gridDim.x; block += CONSUMER_THREADS) {
        const u64 own = shared_long(keys + block * 8);
        u32 above = 0;
#pragma unroll 4
        for (u32 other = 0; other < gridDim.x; other++) above += shared_long(keys + other * 8) > own;
        if (above == wanted - 1) bound = own;
    }
    return reduce_max(shared, bound);
}

// Adds up a row whose logits are in memory, and keeps its likeliest tokens, whose keys are not below `bound`. Returns the thread's part
// of the sum, in steps of `largest`.
DEVICE_CALL u64 keep_likeliest_of(Shared& shared, u64 logits, u32 vocab_size, float scale, u32 wanted, u64 bound, int largest) {
    u64 total = 0;
    pass_over_logits<4>(logits, vocab_size, [&](u32 group, uint4 four) {
        Weight weights[4];
        int tile_largest = NO_EXPONENT;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float logit = finite_logit(__fmul_rn(logit_at(four, i), scale));
            weights[i] = weight_of(logit);
            tile_largest = larger(tile_largest, weights[i].exponent);
            const u64 key = key_of(logit, group * 4 + i);
            if (logit > MINUS_INFINITY && key >= bound) keep_likely(shared, 0, wanted, key);
        }
        // Lanes are together again.
        __syncwarp();
        // Four lanes have a tile.
        for (u32 distance = 2; distance > 0; distance /= 2)
            tile_largest = larger(tile_largest, __shfl_xor_sync(ALL_LANES, tile_largest, distance));
        u32 sum = 0;
#pragma unroll
        for (u32 i = 0; i < 4; i++) sum += weights[i].below(tile_largest);
        const u64 tile = sum_of_tile({tile_largest, sum}, 2);
        if (threadIdx.x % 4 == 0) total += share_of_tile(tile, largest);
    });
    return total;
}

// Lists the `wanted` most likely tokens after an output row, by the target's ids. Equal ones are in the order of the draft's ids. Where
// there are fewer, entries without a token follow. If the head kept what is likeliest, its logits are not there.
DEVICE void list_likeliest(const Program& program, Shared& shared, u32 wanted, u32 row) {
    const ChoosePhase& phase = shared.phase.choose;
    const u32 vocab_size = phase.vocab_size;
    const u64 listed = program.workspace + phase.listed;
    const u64 top = program.workspace + phase.top + sizeof(TopLogprob) * TOP_LIMIT * row;
    begin_best(shared);
    u64 best = 0, total = 0;
    int largest = 0;
    if (shared.call.listed > 0) {
        const auto key_of = [&](u32 block, u32 rank) { return load_l2_long(listed_key(listed, block, row * wanted + rank)); };
        const u64 bound = bound_of(shared, wanted, [&](u32 block) { return key_of(block, 0); });
#pragma unroll 1
        for (u32 i = threadIdx.x; i < gridDim.x * wanted; i += CONSUMER_THREADS) {
            const u64 key = key_of(i / wanted, i % wanted);
            if (key >= bound) keep_likely(shared, 0, wanted, key);
        }
        // All keys, before the largest is read.
        consumers_meet();
        best = shared.best[0];
        largest = reduced(weighed(logit_of(best))).n;
#pragma unroll 4
        for (u32 tile = threadIdx.x; tile < divide_up(vocab_size, TILE_ROWS); tile += CONSUMER_THREADS)
            total += share_of_tile(load_l2_long(tile_sum(listed, vocab_size, row, tile)), largest);
    } else {
        const float scale = program.logit_scale;
        const u64 bests = program.workspace + phase.best, logits = program.workspace + phase.logits + 4ull * row * vocab_size;
        const auto scaled = [&](u64 key) { return finite_logit(__fmul_rn(logit_of(key), scale)); };
        best = best_of_blocks(shared, bests, row);
        const u64 bound = bound_of(shared, wanted, [&](u32 block) {
            const u64 key = load_l2_long(bests + 8ull * (row * gridDim.x + block));
            return is_choosable(key) ? key_of(scaled(key), token_of(key)) : 0;
        });
        largest = reduced(weighed(scaled(best))).n;
        if (is_choosable(best)) total = keep_likeliest_of(shared, logits, vocab_size, scale, wanted, bound, largest);
    }
    // Its barriers also order the last keys before they are read.
    total = reduce_sum(shared, total);
    const float log_sum = exact_log(__fmul_rn(__ull2float_rn(total), 2.2737367544323206e-13f));
    if (threadIdx.x >= wanted) return;
    const u64 key = shared.best[threadIdx.x], entry = top + sizeof(TopLogprob) * threadIdx.x;
    const float above = without(weighed(logit_of(key)), (float)largest);
    store_word(entry, key == 0 ? NONE : program.target_ids ? load_constant(program.target_ids + 4ull * token_of(key)) : token_of(key));
    store_float(entry + 4, key == 0 ? MINUS_INFINITY : __fsub_rn(above, log_sum));
}
