// Typical acceptance (Cai et al., 2024), as stheno's speculation::acceptance::typical, with the same bits for equal logits: a guess
// counts if its probability is above min(threshold, alpha * exp(-H)), where H is the entropy of the target's distribution at the
// temperature. Penalties, bias and mask have no say.
//
// The block that would choose a token for a row judges the guesses after it; block 0 then looks for the longest accepted path.
#pragma once
#include "choose.cuh"
#include "control.cuh"

// e^-31 times the most that -ln(p + 1e-5) can be is below 2^-40: no share of an entropy in fixed point.
#define NO_SHARE (-31.0f)

// The target's distribution after a row, and what is typical of it.
struct Posterior {
    Scores scores;
    u32 best;     // the most likely token
    float total;  // sum of exp(score)
    float limit;  // what a probability has to exceed

    // Without a temperature the most likely token is certain.
    METHOD float probability(u32 token, float logit) const {
        if (scores.temperature == 0.0f) return token == best ? 1.0f : 0.0f;
        return __fdiv_rn(exact_exp(scores.exact(logit)), total);
    }
};

DEVICE float share_of_entropy(float p) { return __fmul_rn(p, exact_log(__fadd_rn(p, 1e-5f))); }

// Two passes, none without a temperature. `best` is the key of the largest logit, which is above -inf.
DEVICE_CALL Posterior posterior_of(Shared& shared, const Generation& generation, float temperature, u64 logits, u32 vocab_size,
                                   u64 best) {
    const Scores scores = scores_of(logit_of(best), temperature);
    Posterior posterior = {scores, token_of(best), 1.0f, 0.0f};
    u64 shares = fixed_point(share_of_entropy(1.0f));
    if (temperature != 0.0f) {
        u64 sum = 0;
        pass_over_logits<4>(logits, vocab_size, [&](u32, uint4 four) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) sum += scores.weight(finite_logit(logit_at(four, i)));
        });
        const float total = from_fixed_point(reduce_sum(shared, sum));
        shares = 0;
        pass_over_logits<4>(logits, vocab_size, [&](u32, uint4 four) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const float logit = finite_logit(logit_at(four, i));
                if (scores.about(logit) < NO_SHARE) continue;
                shares += fixed_point(share_of_entropy(__fdiv_rn(exact_exp(scores.exact(logit)), total)));
            }
        });
        shares = reduce_sum(shared, shares);
        posterior.total = total;
    }
    // The shares are those of -H.
    const float typical = __fmul_rn(generation.posterior_alpha, exact_exp(from_fixed_point(shares)));
    posterior.limit = smaller(generation.posterior_threshold, typical);
    return posterior;
}

// Instead of choose, for an output row of a step: judges the guesses after it, whose Judged it writes. The row's Choice is what
// follows if none of them comes true, the most likely token. The same regions are used.
DEVICE_CALL void judge(const Program& program, Shared& shared, u32 row) {
    const ChoosePhase& phase = shared.phase.choose;
    const Call& call = shared.call;
    Control& control = control_of(program);
    const u32 vocab_size = phase.vocab_size, lists = control.sampling.top_logprobs;
    const u64 raw = program.workspace + phase.logits + 4ull * row * vocab_size;
    const u64 best = phase.best != NONE ? best_of_blocks(shared, program.workspace + phase.best, row)
                                        : largest_of(shared, raw, vocab_size);
    const bool is_made = is_choosable(best), is_listed = is_made && lists != NONE;
    Posterior posterior = {};
    LogSoftmax softmax = {};
    if (is_made) posterior = posterior_of(shared, control.generation, control.sampling.temperature, raw, vocab_size, best);
    if (is_listed) {
        const u64 top = program.workspace + phase.top + sizeof(TopLogprob) * TOP_LIMIT * row;
        const u64 keys = program.workspace + phase.candidates + 8ull * row * vocab_size;
        softmax = log_probabilities(shared, raw, vocab_size, best, lists, top, keys);
    }
    const u32 from = call.outputs[row], guess = threadIdx.x;
    if (guess > from && guess < call.rows && call.parents[guess] == from) {
        const u32 token = call.tokens[guess];
        Judged judged = {MINUS_INFINITY, 0.0f};
        if (is_made && token < vocab_size) {
            const float logit = finite_logit(load_l2_float(raw + 4ull * token));
            const float probability = posterior.probability(token, logit);
            if (probability > posterior.limit) judged.score = exact_log(probability);
            if (is_listed) judged.logprob = softmax.of(logit);
        }
        control.judged[guess] = judged;
    }
    // Who still reads the regions comes before their next use.
    consumers_meet();
    if (threadIdx.x == 0) {
        const u64 choice = program.workspace + phase.choices + sizeof(Choice) * row;
        store_word(choice, token_of(best));
        store_word(choice + 4, 1);
        store_float(choice + 8, is_listed ? softmax.of(logit_of(best)) : 0.0f);
        store_word(choice + 12, is_made ? CHOICE_MADE : CHOICE_NONE_LEFT);
    }
}

// What was judged of the rows of a step, in the region of partials.
struct Judgement {
    Judged judged[ROW_LIMIT];
    float sums[ROW_LIMIT];  // of scores along the path; -inf: it is not accepted
    u32 depths[ROW_LIMIT];
};
static_assert(sizeof(Judgement) <= PARTIAL_BYTES, "room for what was judged");

DEVICE Judgement& judgement_of() { return *(Judgement*)shared_region(PARTIALS_AT); }

// Of two rows equally deep, whether the path of `a` comes after that of `b` in the order of nodes.
DEVICE bool is_path_later(const Call& call, u32 a, u32 b) {
#pragma unroll 1
    while (call.parents[a] != call.parents[b]) a = call.parents[a], b = call.parents[b];
    return a > b;
}

// The last of the deepest rows at or below a row.
DEVICE u32 last_leaf(const Call& call, const u32* depths, u32 row) {
    u32 leaf = row;
#pragma unroll 1
    for (u32 other = row + 1; other < call.rows; other++) {
        u32 up = other;
#pragma unroll 1
        while (up > row) up = call.parents[up];
        if (up != row) continue;
        if (depths[other] > depths[leaf] || depths[other] == depths[leaf] && is_path_later(call, other, leaf)) leaf = other;
    }
    return leaf;
}

// The row that the longest accepted path of a step ends with. Of equally long paths the most probable wins, then the one whose
// leaves come first in Medusa's order: deeper ones, then those of the later path. By all consumers; thread 0 is told.
DEVICE_CALL u32 longest_accepted(const Program& program, const Call& call) {
    Judgement& judgement = judgement_of();
    const u32 row = threadIdx.x;
    if (row > 0 && row < call.rows) {
        // Other blocks wrote it.
        const u64 words = load_l2_long((u64)&control_of(program).judged[row]);
        judgement.judged[row] = {float_of((u32)words), float_of((u32)(words >> 32))};
    }
    // What was judged, to thread 0.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (row != 0) return 0;
    float* const sums = judgement.sums;
    u32* const depths = judgement.depths;
    sums[0] = 0.0f;
    depths[0] = 0;
    u32 goal = 0;
#pragma unroll 1
    for (u32 next = 1; next < call.rows; next++) {
        const u32 parent = call.parents[next];
        depths[next] = depths[parent] + 1;
        // -inf once is -inf for all that is below.
        sums[next] = __fadd_rn(sums[parent], judgement.judged[next].score);
    }
#pragma unroll 1
    for (u32 next = 1; next < call.rows; next++) {
        if (sums[next] == MINUS_INFINITY || depths[next] < depths[goal]) continue;
        bool is_better = depths[next] > depths[goal] || sums[next] > sums[goal];
        if (!is_better && sums[next] == sums[goal]) {
            const u32 ours = last_leaf(call, depths, next), theirs = last_leaf(call, depths, goal);
            is_better = depths[ours] > depths[theirs] || depths[ours] == depths[theirs] && is_path_later(call, ours, theirs);
        }
        if (is_better) goal = next;
    }
    return goal;
}
