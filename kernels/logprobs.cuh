// Log-probabilities under the model's own distribution, as stheno's speculation::sampling::logprobs: of logits before
// penalties, bias and mask.
#pragma once
#include "nucleus.cuh"

struct LogSoftmax {
    float largest, log_sum;

    // Of a finite logit or -inf.
    METHOD float of(float logit) const {
        // Keys know one zero only: of -0 and it the difference would be -0, and so the logarithm of a certain token's
        // probability.
        return logit == MINUS_INFINITY ? logit : __fsub_rn(__fsub_rn(__fadd_rn(logit, 0.0f), largest), log_sum);
    }
};

// The distribution of all tokens. The `wanted` most likely ones, at most TOP_LIMIT and the vocabulary, go
// to `top`, TopLogprob [TOP_LIMIT], most likely first, equal ones by id. `best` is the key of the largest logit, which
// is above -inf; `keys` is room for vocab_size of them. One pass, and one more if tokens are wanted.
DEVICE_CALL LogSoftmax log_probabilities(Shared& shared, u64 logits, u32 vocab_size, u64 best, u32 wanted, u64 top, u64 keys) {
    const Scores scores = scores_of(logit_of(best), 1.0f);
    const u32 buckets = region(shared, SCRATCH_AT);
    wanted = smaller(smaller(wanted, TOP_LIMIT), vocab_size);
    clear_buckets(shared);
    u64 sum = 0;
    u32 tail = 0;
    pass_over_logits<4>(logits, vocab_size, [&](u32 group, uint4 four) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float logit = finite_logit(logit_at(four, i));
            const float below = __fsub_rn(logit, scores.largest);
            if (below >= NO_WEIGHT) sum += fixed_point(exact_exp(below));
            if (wanted == 0 || group * 4 + i >= vocab_size) continue;
            const u32 bucket = scores.bucket(logit);
            if (bucket == BUCKETS - 1) {
                tail++;
            } else {
                add_shared_word(buckets + bucket * 8, 1);
            }
        }
    });
    if (tail) add_shared_word(buckets + (BUCKETS - 1) * 8, tail);
    sum = reduce_sum(shared, sum);
    LogSoftmax softmax;
    softmax.largest = scores.largest;
    softmax.log_sum = exact_log(__fmul_rn(__ull2float_rn(sum), 9.094947017729282e-13f));
    if (wanted == 0) return softmax;

    const Boundary boundary = find_boundary(shared, wanted);
    const List list = empty_list(shared, keys);
    pass_over_logits<4>(logits, vocab_size, [&](u32 group, uint4 four) {
        u64 found[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float logit = finite_logit(logit_at(four, i));
            const bool kept = group * 4 + i < vocab_size && scores.bucket(logit) <= boundary.bucket;
            found[i] = kept ? key_of(logit, group * 4 + i) : 0;
        }
        append(list, found[0], found[1], found[2], found[3]);
    });
    const u32 count = list_length(list);
    const u64 threshold = find_threshold<false>(shared, scores, keys, count, 0, ~0ull, wanted);
    // The wanted keys, and then their ranks: how many are larger.
    const u32 counter = empty_list(shared, keys).counter, chunk = region(shared, CHUNK_AT);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < count; i += CONSUMER_THREADS) {
        const u64 key = load_l2_long(keys + 8ull * i);
        if (key >= threshold) set_shared_long(chunk + add_shared_word(counter, 1) * 8, key);
    }
    // Orders the keys before they are read.
    consumers_meet();
    if (threadIdx.x < wanted) {
        const u64 key = shared_long(chunk + threadIdx.x * 8);
        u32 rank = 0;
#pragma unroll 1
        for (u32 i = 0; i < wanted; i++) rank += shared_long(chunk + i * 8) > key;
        const u64 entry = top + sizeof(TopLogprob) * rank;
        store_word(entry, token_of(key));
        store_float(entry + 4, softmax.of(logit_of(key)));
    }
    return softmax;
}
