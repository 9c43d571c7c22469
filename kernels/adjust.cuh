// Logits after penalties, bias and mask, in stheno's order: one pass over the vocabulary for what is the same for all
// tokens, then the few tokens of the bias and of the row's path one by one.
#pragma once
#include "penalties.cuh"
#include "vocabulary.cuh"

// Tokens that the pass leaves alone have a bit in the region of scratch: bit token % MARKS, so in a larger vocabulary
// some others share their fate. All tokens of one bit, and of one residue of 256, are the same thread's.
#define MARKS (BUCKETS * 64u)

struct Adjusted {
    u64 best;      // key of the largest adjusted logit; 0 if all are -inf
    u64 raw_best;  // of the largest logit as the model gave it
};

// Calls visit(token, add) for the entries of the bias that are this thread's, in order.
template <typename Visit> DEVICE void visit_bias(const Program& program, Shared& shared, u32 bias_count, Visit visit) {
    const u32 chunk = region(shared, CHUNK_AT);
#pragma unroll 1
    for (u32 begin = 0; begin < bias_count; begin += CHUNK_ENTRIES) {
        const u32 entries = smaller(bias_count - begin, CHUNK_ENTRIES);
        // Who still reads the chunk before comes first.
        consumers_meet();
#pragma unroll 1
        for (u32 i = threadIdx.x; i < entries; i += CONSUMER_THREADS)
            set_shared_long(chunk + i * 8, load_l2_long(program.bias + 8ull * (begin + i)));
        // Orders the chunk before it is read.
        consumers_meet();
#pragma unroll 1
        for (u32 i = 0; i < entries; i++) {
            const u64 entry = shared_long(chunk + i * 8);
            if ((u32)entry % CONSUMER_THREADS == threadIdx.x) visit((u32)entry, float_of((u32)(entry >> 32)));
        }
    }
}

// Calls visit(token) for every token that the pass leaves alone, more than once for some.
template <typename Visit>
DEVICE void visit_marked(const Program& program, Shared& shared, u32 bias_count, u32 steps, u32 vocab_size,
                         Visit visit) {
    const auto visit_all = [&](u32 token) {
#pragma unroll 1
        for (token %= MARKS; token < vocab_size; token += MARKS) visit(token);
    };
#pragma unroll 1
    for (u32 i = 0; i < steps; i++) {
        const u32 token = load_step(shared, i).token;
        if (token != NONE && token % CONSUMER_THREADS == threadIdx.x) visit_all(token);
    }
    visit_bias(program, shared, bias_count, [&](u32 token, float) { visit_all(token); });
}

DEVICE bool is_allowed(const Program& program, u32 token) {
    return load_l2(program.mask + token / 32 * 4ull) >> token % 32 & 1;
}

// Fills `adjusted`, f32 [vocab_size rounded up to 4], for a row of the call whose logits are `raw`: finite numbers and
// -inf.
DEVICE_CALL Adjusted adjust(const Program& program, Shared& shared, const Sampling& sampling, u32 row, u64 raw,
                            u64 adjusted, u32 vocab_size) {
    struct Loaded {
        uint4 logits, counts_01, counts_23;
        u32 mask;
    };
    const u32 steps = sampling.penalises ? find_path(program, shared, sampling, row) : 0;
    const bool marks = steps > 0 || sampling.bias_count > 0;
    const u32 marked = region(shared, SCRATCH_AT);
    if (marks) {
        clear_buckets(shared);
        visit_marked(program, shared, sampling.bias_count, steps, smaller(vocab_size, MARKS),
                     [&](u32 token) { or_shared_word(marked + token / 32 * 4, 1u << token % 32); });
        // Orders the marks before they are read.
        consumers_meet();
    }
    Best best = no_best(), raw_best = no_best();
    u64 marked_best = 0;
    pass_over<2>(
        vocab_size,
        [&](u32 group) {
            Loaded loaded;
            loaded.logits = load_group(raw, vocab_size, group);
            loaded.counts_01 = make_uint4(0, 0, 0, 0);
            loaded.counts_23 = make_uint4(0, 0, 0, 0);
            loaded.mask = ALL_LANES;
            const u32 token = group * 4;
            if (sampling.penalises) {
                const u64 counts = program.counts + 8ull * token;
                if (token + 2 <= vocab_size) loaded.counts_01 = load_l2_vector(counts);
                if (token + 4 <= vocab_size) loaded.counts_23 = load_l2_vector(counts + 16);
                // A last group of one or three tokens.
                if (token + 1 == vocab_size || token + 3 == vocab_size) {
                    const u64 last = load_l2_long(program.counts + 8ull * (vocab_size - 1));
                    uint4& pair = token + 1 == vocab_size ? loaded.counts_01 : loaded.counts_23;
                    pair.x = (u32)last, pair.y = (u32)(last >> 32);
                }
            }
            if (sampling.masked && token < vocab_size)
                loaded.mask = load_l2(program.mask + token / 32 * 4ull) >> token % 32;
            return loaded;
        },
        [&](u32 group, Loaded loaded) {
            const u32 first = group * 4;
            if (first >= vocab_size) return;
            const u32 skipped = marks ? shared_word(marked + first % MARKS / 32 * 4) >> first % 32 : 0;
            const uint4 low = loaded.counts_01, high = loaded.counts_23;
            const Count counts[4] = {{low.x, low.y}, {low.z, low.w}, {high.x, high.y}, {high.z, high.w}};
            float out[4];
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const float logit = logit_at(loaded.logits, i);
                const float changed = finite_logit(penalise(sampling, logit, counts[i]));
                out[i] = loaded.mask >> i & 1 ? changed : MINUS_INFINITY;
                raw_best.see(finite_logit(logit), first + i);
                if (!(skipped >> i & 1)) best.see(out[i], first + i);
            }
            *(uint4*)(adjusted + 4ull * first) =
                make_uint4(bits_of(out[0]), bits_of(out[1]), bits_of(out[2]), bits_of(out[3]));
        });
    if (marks) {
        // Orders the pass's stores before those of the threads that the marked tokens belong to.
        consumers_meet();
        visit_marked(program, shared, sampling.bias_count, steps, vocab_size, [&](u32 token) {
            Count count = {0, 0};
            if (sampling.penalises) count = count_of(program, shared, steps, token);
            store_float(adjusted + 4ull * token, penalise(sampling, load_l2_float(raw + 4ull * token), count));
        });
        visit_bias(program, shared, sampling.bias_count, [&](u32 token, float add) {
            if (token >= vocab_size) return;
            const u64 address = adjusted + 4ull * token;
            store_float(address, __fadd_rn(load_l2_float(address), add));
        });
        visit_marked(program, shared, sampling.bias_count, steps, vocab_size, [&](u32 token) {
            const u64 address = adjusted + 4ull * token;
            float logit = finite_logit(load_l2_float(address));
            if (sampling.masked && !is_allowed(program, token)) logit = MINUS_INFINITY;
            store_float(address, logit);
            marked_best = larger(marked_best, key_of(logit, token));
        });
    }
    // The barriers in here order the adjusted logits before they are read.
    return {reduce_max(shared, larger(best.key(), marked_best)), reduce_max(shared, raw_best.key())};
}
