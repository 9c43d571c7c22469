// Rejection sampling, as stheno's speculation::acceptance::rejection: a draft draws its guesses without replacement, and each is kept
// with the probability that leaves the target's distribution as it is (Leviathan et al., 2023; Miao et al., 2024).
//
// The block that would list guesses after a row of the draft draws them, and keeps what it drew from. The block that would choose a
// token after a row of the target's decides on the guesses there: its token is an accepted guess, or drawn from what is left of
// the target's distribution, so that block 0 walks the tree as always. A draft's distribution is that of its logits at the
// temperature: filters and penalties are the target's alone, which changes how often guesses are right, not what is emitted.
#pragma once
#include "choose.cuh"
#include "control.cuh"
#include "grow.cuh"

// Row of Control::draws for what is drawn after a node: of heads, which ask nobody, the node's level, else the node.
DEVICE u64 draws_of(const Control& control, u32 row) { return control.draws + 4ull * VOCAB_SIZE * row; }

// Fills a row with the probabilities of a draft's logits, whose largest has key `best`; false if it knows no token.
DEVICE_CALL bool keep_distribution(const Program& program, Shared& shared, u64 logits, u32 vocab_size, u64 best, u64 row) {
    const Sampling& sampling = control_of(program).sampling;
    const float scale = program.logit_scale;
    const u32 first = token_of(best);
    const Scores scores = scores_of(finite_logit(__fmul_rn(logit_of(best), scale)), sampling.temperature);
    // The target's id; NONE for those that only the draft has.
    const auto target_of = [&](u32 token) {
        const u32 id = program.target_ids ? load_constant(program.target_ids + 4ull * token) : token;
        return id < VOCAB_SIZE ? id : NONE;
    };
    u64 sum = sampling.greedy ? fixed_point(1.0f) : 0;
    if (!sampling.greedy) {
        pass_over_logits<4>(logits, vocab_size, [&](u32 group, uint4 four) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const u32 token = group * 4 + i;
                if (token >= vocab_size || target_of(token) == NONE) continue;
                sum += scores.weight(finite_logit(__fmul_rn(logit_at(four, i), scale)));
            }
        });
        sum = reduce_sum(shared, sum);
    }
    for (u32 token = threadIdx.x; token < VOCAB_SIZE; token += CONSUMER_THREADS) store_float(row + 4ull * token, 0.0f);
    // The zeros, before what replaces them.
    consumers_meet();
    const float total = from_fixed_point(sum);
    if (sum == 0) return false;
    pass_over_logits<4>(logits, vocab_size, [&](u32 group, uint4 four) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 token = group * 4 + i;
            const u32 id = token < vocab_size ? target_of(token) : NONE;
            if (id == NONE) continue;
            const float score = scores.exact(finite_logit(__fmul_rn(logit_at(four, i), scale)));
            const float weight = sampling.greedy ? (token == first ? 1.0f : 0.0f) : exact_exp(score);
            store_float(row + 4ull * id, __fdiv_rn(weight, total));
        }
    });
    // The row, to all.
    consumers_meet();
    return true;
}

// The sum of a row of probabilities: in f64, as little may be left of it once likely tokens are taken.
DEVICE_CALL double mass_of(Shared& shared, u64 row) {
    double sum = 0.0;
    pass_over_logits<4>(row, VOCAB_SIZE, [&](u32, uint4 four) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) sum = __dadd_rn(sum, (double)larger(logit_at(four, i), 0.0f));
    });
    const auto add = [](u64 a, u64 b) {
        return (u64)__double_as_longlong(__dadd_rn(__longlong_as_double((i64)a), __longlong_as_double((i64)b)));
    };
    return __longlong_as_double((i64)reduce(shared, (u64)__double_as_longlong(sum), add));
}

// Instead of list_likeliest: draws guesses after an output row of a draft. Below the root topk of them, without replacement; then one,
// or of heads, which ask nobody, one for each node of their level. The list has (token, logarithm of its probability given that those
// before it are taken); entries without a token follow.
DEVICE_CALL void draw_guesses(const Program& program, Shared& shared, u32 row) {
    const ChoosePhase& phase = shared.phase.choose;
    const Control& control = control_of(program);
    const Generation& generation = control.generation;
    const u32 vocab_size = phase.vocab_size, topk = generation.topk;
    const bool is_heads = generation.drafter == DRAFTER_HEADS;
    const bool is_first = is_heads ? phase.head == 0 : shared.call.segment != SEGMENT_DRAFT;
    u32 node = 0, level = phase.head;
    if (!is_heads) {
        level = load_l2((u64)&control.growth.levels);
        if (!is_first) node = 1 + ~load_l2((u64)&control.growth.frontier[row].key);
    } else if (!is_first) {
        node = 1 + (phase.head - 1) * topk;
    }
    const u32 kept_row = is_heads ? phase.head : node;
    // Children of the root are the first tokens that are not known.
    const u32 position = load_l2((u64)&generation.known) + level;
    const u64 raw = program.workspace + phase.logits + 4ull * row * vocab_size;
    const u64 top = program.workspace + phase.top + sizeof(TopLogprob) * TOP_LIMIT * row;
    const u64 distribution = draws_of(control, kept_row);
    const u64 best = best_of_blocks(shared, program.workspace + phase.best, row);
    // Heads beyond the levels of a tree have no row.
    bool is_known = is_choosable(best) && (!is_heads || phase.head < generation.levels);
    if (is_known) is_known = keep_distribution(program, shared, raw, vocab_size, best, distribution);
    const u32 draws = is_first || is_heads ? topk : 1;
    double left = is_known && is_first ? mass_of(shared, distribution) : 1.0;
    u64 last = ~0ull;
#pragma unroll 1
    for (u32 draw = 0; draw < draws; draw++) {
        u64 largest = 0;
        if (is_known) {
            const u32 its_node = is_first ? 0 : node + draw;
            pass_over_logits<2>(distribution, VOCAB_SIZE, [&](u32 group, uint4 four) {
                if (group * 4 >= VOCAB_SIZE) return;
                const uint4 words = words_of(control.sampling.seed, position, group, STREAM_DRAFT, its_node);
                for (u32 i = 0; i < 4; i++) {
                    const float q = float_of(word_of(four, i));
                    if (!(q > 0.0f)) continue;
                    const u64 key = key_of(__fadd_rn(exact_log(q), gumbel(word_of(words, i))), group * 4 + i);
                    if (key < last) largest = larger(largest, key);
                }
            });
            largest = reduce_max(shared, largest);
        }
        if (is_first) last = largest;
        if (threadIdx.x == 0) {
            TopLogprob drawn = {NONE, MINUS_INFINITY};
            if (largest > 0) {
                const float q = load_l2_float(distribution + 4ull * token_of(largest));
                // At least the token is left, whatever rounding says.
                left = larger(left, (double)q);
                drawn = {token_of(largest), exact_log(larger((float)__ddiv_rn((double)q, left), 1.17549435e-38f))};
                if (is_first) left = __dsub_rn(left, (double)q);
            }
            store_word(top + sizeof(TopLogprob) * draw, drawn.token);
            store_float(top + sizeof(TopLogprob) * draw + 4, drawn.logprob);
        }
    }
    // Who still reads the regions comes before their next use.
    consumers_meet();
}

// What the target's filters leave of a row of logits whose largest has key `best`: weights f32 [vocab_size], which go where its keys
// were, and their sum.
DEVICE_CALL float keep_weights(Shared& shared, const Sampling& sampling, u64 logits, u32 vocab_size, u64 best, u64 keys) {
    const Scores scores = scores_of(logit_of(best), sampling.temperature);
    u64 threshold = 0;
    if (sampling.top_k > 0 && sampling.top_k < vocab_size || sampling.top_p < 1.0f)
        threshold = filter(shared, sampling, scores, logits, vocab_size, keys).threshold;
    // All reads of the keys, before weights replace them.
    consumers_meet();
    u64 sum = 0;
    pass_over_logits<2>(logits, vocab_size, [&](u32 group, uint4 four) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 token = group * 4 + i;
            if (token >= vocab_size) continue;
            const float logit = finite_logit(logit_at(four, i));
            float weight = 0.0f;
            if (logit > MINUS_INFINITY && key_of(logit, token) >= threshold) weight = exact_exp(scores.exact(logit));
            if (weight < sampling.min_p) weight = 0.0f;
            sum += fixed_point(weight);
            store_float(keys + 4ull * token, weight);
        }
    });
    sum = reduce_sum(shared, sum);
    return from_fixed_point(sum);
}

// Decides on the guesses after a row of the call: `weights` are the target's, f32 [vocab_size], `total` their sum, `drawn_from` what
// the guesses were drawn from. Returns the token after the row.
DEVICE_CALL u32 verify_row(Shared& shared, u64 seed, u64 weights, float total, u32 vocab_size, u64 drawn_from, u32 row) {
    const Call& call = shared.call;
    const u32 position = call.positions[row] + 1;
    double left = mass_of(shared, drawn_from);
    u32 index = 0;
#pragma unroll 1
    for (u32 guess = row + 1; guess < call.rows; guess++) {
        if (call.parents[guess] != row) continue;
        const u32 token = call.tokens[guess];
        const uint4 words = words_of(seed, position, index / 4, STREAM_ACCEPTANCE, 0);
        const float uniform = unit(word_of(words, index % 4));
        index++;
        const float p = __fdiv_rn(load_l2_float(weights + 4ull * token), total), q = load_l2_float(drawn_from + 4ull * token);
        // At least the guess is left, whatever rounding says.
        left = larger(left, (double)q);
        const float share = (float)__ddiv_rn((double)q, left);
        // A guess with p(x) >= q(x) always passes: no uniform number is 1.
        if (__fmul_rn(uniform, share) < p) return token;
        // p becomes norm(max(0, p - q)).
        const float inverse = (float)__ddiv_rn(1.0, left);
        u64 residual = 0;
        pass_over_logits<2>(drawn_from, vocab_size, [&](u32 group, uint4 four) {
#pragma unroll 1
            for (u32 i = 0; i < 4; i++) {
                const u32 other = group * 4 + i;
                if (other >= vocab_size) continue;
                const u64 at = weights + 4ull * other;
                const float own = __fdiv_rn(load_l2_float(at), total);
                const float rest = __fsub_rn(own, __fmul_rn(float_of(word_of(four, i)), inverse));
                residual += other != token && rest > 0.0f ? fixed_point(rest) : 0;
            }
        });
        residual = reduce_sum(shared, residual);
        // p and q are equal up to rounding, a rejection of probability 0: any token of p but the guess will do.
        const bool is_equal = residual == 0;
        if (is_equal && p >= 1.0f) return token;
        for (u32 other = threadIdx.x; other < vocab_size; other += CONSUMER_THREADS) {
            const u64 at = weights + 4ull * other;
            const float own = __fdiv_rn(load_l2_float(at), total);
            const float loss = is_equal ? 0.0f : __fmul_rn(load_l2_float(drawn_from + 4ull * other), inverse);
            store_float(at, other == token ? 0.0f : larger(__fsub_rn(own, loss), 0.0f));
        }
        total = is_equal ? __fsub_rn(1.0f, p) : from_fixed_point(residual);
        left = __dsub_rn(left, (double)q);
        // The weights, before they are read.
        consumers_meet();
    }
    u64 best = 0;
    pass_over_logits<2>(weights, vocab_size, [&](u32 group, uint4 four) {
        if (group * 4 >= vocab_size) return;
        const uint4 words = choice_words(seed, position, group);
#pragma unroll 1
        for (u32 i = 0; i < 4; i++) {
            const float weight = float_of(word_of(four, i));
            if (!(weight > 0.0f)) continue;
            const float noisy = __fadd_rn(exact_log(__fdiv_rn(weight, total)), gumbel(word_of(words, i)));
            best = larger(best, key_of(noisy, group * 4 + i));
        }
    });
    return token_of(reduce_max(shared, best));
}

// Instead of choose, for an output row of a step over a tree that was drawn.
DEVICE_CALL void verify_guesses(const Program& program, Shared& shared, u32 row) {
    const ChoosePhase& phase = shared.phase.choose;
    const Control& control = control_of(program);
    const Sampling& sampling = control.sampling;
    const Call& call = shared.call;
    const u32 vocab_size = phase.vocab_size, call_row = call.outputs[row];
    bool has_guesses = false;
#pragma unroll 1
    for (u32 guess = call_row + 1; guess < call.rows; guess++) has_guesses = has_guesses || call.parents[guess] == call_row;
    // Where there is no chance, what is most likely is what would be accepted.
    if (!has_guesses || sampling.greedy) {
        choose(program, shared, sampling, row);
        return;
    }
    const u64 raw = program.workspace + phase.logits + 4ull * row * vocab_size;
    const u64 keys = program.workspace + phase.candidates + 8ull * row * vocab_size;
    u64 logits = raw, best = 0, raw_best = 0;
    if (sampling.penalises || sampling.bias_count > 0 || sampling.masked) {
        logits = program.workspace + phase.adjusted + 16ull * row * divide_up(vocab_size, 4);
        const Adjusted adjusted = adjust(program, shared, sampling, call_row, raw, logits, vocab_size);
        best = adjusted.best;
        raw_best = adjusted.raw_best;
    } else {
        best = raw_best = phase.best != NONE ? best_of_blocks(shared, program.workspace + phase.best, row)
                                             : largest_of(shared, raw, vocab_size);
    }
    const bool is_made = is_choosable(best);
    u32 token = 0;
    float logprob = 0.0f;
    if (is_made) {
        const u32 from = control.generation.drafter == DRAFTER_HEADS ? call.positions[call_row] - call.length : call_row;
        const float total = keep_weights(shared, sampling, logits, vocab_size, best, keys);
        // The weights, to all.
        consumers_meet();
        token = verify_row(shared, sampling.seed, keys, total, vocab_size, draws_of(control, from), call_row);
        // All reads of the weights, before keys replace them.
        consumers_meet();
        if (sampling.top_logprobs != NONE) {
            const u64 top = program.workspace + phase.top + sizeof(TopLogprob) * TOP_LIMIT * row;
            const LogSoftmax softmax = log_probabilities(shared, raw, vocab_size, raw_best, sampling.top_logprobs, top, keys);
            logprob = softmax.of(finite_logit(load_l2_float(raw + 4ull * token)));
        }
    }
    // Who still reads the regions comes before their next use.
    consumers_meet();
    if (threadIdx.x == 0) {
        const u64 choice = program.workspace + phase.choices + sizeof(Choice) * row;
        store_word(choice, token);
        store_word(choice + 4, 1);
        store_float(choice + 8, logprob);
        store_word(choice + 12, is_made ? CHOICE_MADE : CHOICE_NONE_LEFT);
    }
}
