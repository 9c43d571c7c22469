// Temperature, top-k, top-p and min-p with the results of stheno's speculation::sampling::nucleus, without a sort. What
// is kept is a prefix of the tokens in the order of their keys, so a filter is the least key that it keeps. Where that
// is, integer counts and integer sums of fixed-point weights say, which no order of addition can change.
#pragma once
#include "math.cuh"
#include "vocabulary.cuh"

// A weight in [0, 1] in steps of 2^-40, cut: the sum of up to 2^23 of them fits a u64.
DEVICE u64 fixed_point(float weight) { return (u64)__float2ll_rz(__fmul_rn(weight, 1099511627776.0f)); }

// A sum of such steps, negative ones too.
DEVICE float from_fixed_point(u64 sum) { return __fmul_rn(__ll2float_rn((i64)sum), 9.094947017729282e-13f); }

// The share of `total` that top-p must reach: ceil(p * total), p in steps of 2^-32.
DEVICE u64 share_of(float top_p, u64 total) {
    const u64 p = __float2ull_ru(__fmul_rn(top_p, 4294967296.0f));
    const u64 low = p * total;
    const u64 rounded = low + 0xffffffffu;
    const u64 high = __umul64hi(p, total) + (rounded < low);
    return high << 32 | rounded >> 32;
}

// e^-28.5 is below 2^-41: no weight in fixed point.
#define NO_WEIGHT (-28.5f)

// (logit - largest) / temperature, and cheaper things that it is about.
struct Scores {
    float largest, temperature;
    float reciprocal;  // of the temperature; NaN where it would lose precision
    float resolution;  // buckets of a unit of logits, 64 for a nat

    // Not for -inf. Subtracting first keeps a small temperature from making ties of overflow. What overflows is -inf
    // here and the least float in stheno: its weight is 0, and no noise makes it the best, either way.
    METHOD float exact(float logit) const { return __fdiv_rn(__fsub_rn(logit, largest), temperature); }

    // Above -1000 within 0.01 of the exact score, and below where that is. Or NaN, which no comparison holds for.
    METHOD float about(float logit) const { return __fmul_rn(__fsub_rn(logit, largest), reciprocal); }

    // Grows as logits fall. 32 nats in all; the last bucket has what is below.
    METHOD u32 bucket(float logit) const {
        return smaller(__float2uint_rz(__fmul_rn(__fsub_rn(largest, logit), resolution)), BUCKETS - 1);
    }

    METHOD u64 weight(float logit) const { return about(logit) < NO_WEIGHT ? 0 : fixed_point(exact_exp(exact(logit))); }
};

DEVICE Scores scores_of(float largest, float temperature) {
    Scores scores;
    scores.largest = largest;
    scores.temperature = temperature;
    const bool precise = temperature >= 1e-30f && temperature <= 1e30f;
    scores.reciprocal = precise ? __fdiv_rn(1.0f, temperature) : float_of(0x7fc00000u);
    scores.resolution = smaller(__fdiv_rn(64.0f, temperature), LARGEST_FLOAT);
    return scores;
}

// The least key of the shortest prefix of a list whose measures (weights, or 1 for each) add up to `target`; `low` if
// they do not. Only keys from `low` to `high` count. Each round cuts the range of keys to less than a thousandth.
template <bool WEIGHS>
DEVICE_CALL u64 find_threshold(Shared& shared, Scores scores, u64 keys, u32 count, u64 low, u64 high, u64 target) {
    const u32 buckets = region(shared, SCRATCH_AT);
    for (;;) {
        u64 least = ~0ull, most = 0;
        for (u32 i = threadIdx.x; i < count; i += CONSUMER_THREADS) {
            const u64 key = load_l2_long(keys + 8ull * i);
            if (key < low || key > high) continue;
            least = smaller(least, key);
            most = larger(most, key);
        }
        least = reduce_min(shared, least);
        most = reduce_max(shared, most);
        if (least > most) return low;
        if (least == most) return least;
        low = least;
        high = most;
        const u32 bits = 64 - __clzll((i64)(high - low));
        const u32 shift = bits > 11 ? bits - 11 : 0;
        clear_buckets(shared);
        for (u32 i = threadIdx.x; i < count; i += CONSUMER_THREADS) {
            const u64 key = load_l2_long(keys + 8ull * i);
            if (key < low || key > high) continue;
            const u32 bucket = buckets + (u32)((high - key) >> shift) * 8;
            if (!WEIGHS) {
                add_shared_word(bucket, 1);
            } else if (const u64 weight = scores.weight(logit_of(key))) {
                add_shared_long(bucket, weight);
            }
        }
        const Boundary boundary = find_boundary(shared, target);
        if (boundary.bucket == BUCKETS) return low;
        target -= boundary.before;
        const u64 last = (((u64)boundary.bucket + 1) << shift) - 1;
        low = last < high - low ? high - last : low;
        high -= (u64)boundary.bucket << shift;
    }
}

// Tokens still in the running: keys of the list from `threshold` on.
struct Candidates {
    u64 keys;
    u32 count;
    u64 threshold;
};

// What top-k and top-p leave of a row of logits; at least one of them cuts. `keys` is room for vocab_size of them. Two
// passes.
DEVICE_CALL Candidates filter(Shared& shared, const Sampling& sampling, Scores scores, u64 logits, u32 vocab_size,
                              u64 keys) {
    const bool cuts_k = sampling.top_k > 0 && sampling.top_k < vocab_size;
    const u32 buckets = region(shared, SCRATCH_AT);
    clear_buckets(shared);
    u64 total = 0;
    // What falls into the last bucket is counted apart: there may be much of it.
    u32 tail = 0;
    pass_over_logits<4>(logits, vocab_size, [&](u32, uint4 four) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float logit = finite_logit(logit_at(four, i));
            if (logit == MINUS_INFINITY) continue;
            const u32 bucket = scores.bucket(logit);
            if (cuts_k) {
                if (bucket == BUCKETS - 1) {
                    tail++;
                } else {
                    add_shared_word(buckets + bucket * 8, 1);
                }
            } else if (const u64 weight = scores.weight(logit)) {
                total += weight;
                add_shared_long(buckets + bucket * 8, weight);
            }
        }
    });
    if (tail) add_shared_word(buckets + (BUCKETS - 1) * 8, tail);
    const u64 target = cuts_k ? sampling.top_k : share_of(sampling.top_p, reduce_sum(shared, total));
    const Boundary boundary = find_boundary(shared, target);

    const List list = empty_list(shared, keys);
    // Better buckets are kept whole: the search is among keys of the last one.
    u64 high = 0;
    pass_over_logits<4>(logits, vocab_size, [&](u32 group, uint4 four) {
        u64 found[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float logit = finite_logit(logit_at(four, i));
            const u32 bucket = scores.bucket(logit);
            const bool kept = logit > MINUS_INFINITY && bucket <= boundary.bucket;
            found[i] = kept ? key_of(logit, group * 4 + i) : 0;
            if (bucket == boundary.bucket) high = larger(high, found[i]);
        }
        append(list, found[0], found[1], found[2], found[3]);
    });
    Candidates candidates = {keys, list_length(list), 0};
    // Fewer than k tokens: all of them are in the list.
    if (boundary.bucket == BUCKETS) {
        candidates.threshold = 0;
    } else {
        high = reduce_max(shared, high);
        const u64 rest = target - boundary.before;
        candidates.threshold =
            cuts_k ? find_threshold<false>(shared, scores, keys, candidates.count, 0, high, rest)
                   : find_threshold<true>(shared, scores, keys, candidates.count, 0, high, rest);
    }
    if (!cuts_k || sampling.top_p >= 1.0f) return candidates;
    // The nucleus of what top-k left.
    total = 0;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < candidates.count; i += CONSUMER_THREADS) {
        const u64 key = load_l2_long(keys + 8ull * i);
        if (key >= candidates.threshold) total += scores.weight(logit_of(key));
    }
    const u64 share = share_of(sampling.top_p, reduce_sum(shared, total));
    candidates.threshold =
        find_threshold<true>(shared, scores, keys, candidates.count, candidates.threshold, ~0ull, share);
    return candidates;
}
