// Chooses a token from a row of logits: the same token as stheno's Sampler::choose, bit for bit the same
// log-probabilities.
//
// Passes over the vocabulary: none for greedy choices of which the head has said each block's best. Otherwise one to
// adjust the logits if there are penalties, bias or mask, or to find the largest if the head did not; for chance one,
// or with top-k or top-p two and then the list of what is left; for log-probabilities one, or two with a list of the
// most likely.
#pragma once
#include "adjust.cuh"
#include "logprobs.cuh"
#include "nucleus.cuh"
#include "philox.cuh"

// Key of the row's largest logit out of those of all blocks, which the head wrote by key_of(finite_logit(logit),
// token); 0 for a block without tokens.
DEVICE u64 best_of_blocks(Shared& shared, u64 best, u32 row) {
    u64 largest = 0;
#pragma unroll 1
    for (u32 block = threadIdx.x; block < gridDim.x; block += CONSUMER_THREADS)
        largest = larger(largest, load_l2_long(best + 8ull * (row * gridDim.x + block)));
    return reduce_max(shared, largest);
}

struct Drawn {
    u32 token, kept;
};

// Of a thread: how many tokens it has seen that the filters keep, and the best of them.
struct Draw {
    u64 best;     // key of score plus noise
    float sum;    // score plus noise of the best
    u32 kept;

    METHOD void take(u32 token, float noisy) {
        best = larger(best, key_of(noisy, token));
        sum = larger(sum, noisy);
    }
};

DEVICE Drawn finish_draw(Shared& shared, const Draw& draw) {
    const u64 best = reduce_max(shared, draw.best);
    return {token_of(best), (u32)reduce_sum(shared, draw.kept)};
}

// Draws from a row of logits whose largest has key `best`, filtered by top-k, top-p and min-p: the largest of score
// plus Gumbel noise wins.
DEVICE_CALL Drawn draw_token(Shared& shared, const Sampling& sampling, u64 logits, u32 vocab_size, u64 keys, u64 best,
                             u32 position) {
    const Scores scores = scores_of(logit_of(best), sampling.temperature);
    const float min_p = sampling.min_p;
    Draw draw = {0, -LARGEST_FLOAT, 0};
    if (sampling.top_k > 0 && sampling.top_k < vocab_size || sampling.top_p < 1.0f) {
        const Candidates candidates = filter(shared, sampling, scores, logits, vocab_size, keys);
#pragma unroll 1
        for (u32 i = threadIdx.x; i < candidates.count; i += CONSUMER_THREADS) {
            const u64 key = load_l2_long(keys + 8ull * i);
            if (key < candidates.threshold) continue;
            const float score = scores.exact(logit_of(key));
            if (min_p > 0.0f && exact_exp(score) < min_p) continue;
            const u32 token = token_of(key);
            const float noise = gumbel(word_of(choice_words(sampling.seed, position, token / 4), token % 4));
            draw.kept++;
            draw.take(token, __fadd_rn(score, noise));
        }
        return finish_draw(shared, draw);
    }
    // The most likely token is always in the running: what cannot beat it needs neither exact score nor logarithms.
    const u32 first = token_of(best);
    const u32 first_word = word_of(choice_words(sampling.seed, position, first / 4), first % 4);
    draw.take(first, __fadd_rn(scores.exact(logit_of(best)), gumbel(first_word)));
    const float least = min_p > 0.0f ? __fsub_rn(exact_log(min_p), 0.1f) : -LARGEST_FLOAT;
    pass_over_logits<2>(logits, vocab_size, [&](u32 group, uint4 four) {
        // Bit i: token i of the group may be kept, and if that is known already may win.
        u32 near = 0;
        float about[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float logit = finite_logit(logit_at(four, i));
            const u32 is_left = logit > MINUS_INFINITY;
            about[i] = scores.about(logit);
            // No noise is larger than 22.2.
            const bool is_far = min_p > 0.0f ? about[i] < least : __fadd_rn(about[i], 22.3f) < draw.sum;
            draw.kept += min_p > 0.0f ? 0 : is_left;
            near |= is_far ? 0 : is_left << i;
        }
        if (near == 0) return;
        const uint4 words = choice_words(sampling.seed, position, group);
        if (min_p == 0.0f) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const float at_most = __fadd_rn(about[i], gumbel_at_most(word_of(words, i)));
                near &= __fadd_rn(at_most, 0.05f) < draw.sum ? ~(1u << i) : ALL_LANES;
            }
        }
#pragma unroll 1
        for (; near; near &= near - 1) {
            const u32 i = __ffs((int)near) - 1;
            const float score = scores.exact(finite_logit(float_of(word_of(four, i))));
            if (min_p > 0.0f) {
                if (exact_exp(score) < min_p) continue;
                draw.kept++;
            }
            draw.take(group * 4 + i, __fadd_rn(score, gumbel(word_of(words, i))));
        }
    });
    return finish_draw(shared, draw);
}

// By the consumers of one block, for an output row of shared.call: the phase is shared.phase.choose. Writes the row's
// Choice and, if log-probabilities are wanted, its TopLogprobs. Without a token to choose the status says so and the
// token is 0. Regions of scratch and partials must be free, and are when it returns.
DEVICE void choose(const Program& program, Shared& shared, const Sampling& sampling, u32 row) {
    const ChoosePhase& phase = shared.phase.choose;
    const u32 vocab_size = phase.vocab_size;
    const u64 raw = program.workspace + phase.logits + 4ull * row * vocab_size;
    const u64 keys = program.workspace + phase.candidates + 8ull * row * vocab_size;
    const u32 call_row = shared.call.outputs[row];
    u64 logits = raw, best, raw_best;
    if (sampling.penalises || sampling.bias_count > 0 || sampling.masked) {
        logits = program.workspace + phase.adjusted + 16ull * row * divide_up(vocab_size, 4);
        const Adjusted adjusted = adjust(program, shared, sampling, call_row, raw, logits, vocab_size);
        best = adjusted.best;
        raw_best = adjusted.raw_best;
    } else {
        best = phase.best != NONE ? best_of_blocks(shared, program.workspace + phase.best, row)
                                  : largest_of(shared, raw, vocab_size);
        raw_best = best;
    }
    const u64 choice = program.workspace + phase.choices + sizeof(Choice) * row;
    Drawn drawn = {0, 0};
    float logprob = 0.0f;
    const bool is_made = is_choosable(best);
    if (is_made) {
        drawn = {token_of(best), 1};
        if (!sampling.greedy)
            drawn = draw_token(shared, sampling, logits, vocab_size, keys, best, shared.call.positions[call_row] + 1);
        if (sampling.top_logprobs != NONE) {
            const u64 top = program.workspace + phase.top + sizeof(TopLogprob) * TOP_LIMIT * row;
            const LogSoftmax softmax =
                log_probabilities(shared, raw, vocab_size, raw_best, sampling.top_logprobs, top, keys);
            logprob = softmax.of(finite_logit(load_l2_float(raw + 4ull * drawn.token)));
        }
    }
    // Who still reads the regions comes before their next use.
    consumers_meet();
    if (threadIdx.x == 0) {
        store_word(choice, drawn.token);
        store_word(choice + 4, drawn.kept);
        store_float(choice + 8, logprob);
        store_word(choice + 12, is_made ? CHOICE_MADE : CHOICE_NONE_LEFT);
    }
}
