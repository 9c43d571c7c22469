// What a draft guesses at a row: its best tokens with the logarithms of their probabilities, by the target's ids.
#pragma once
#include "choose.cuh"
#include "control.cuh"

DEVICE u32 target_id(const Program& program, u32 token) {
    return program.target_ids ? load_constant(program.target_ids + 4ull * token) : token;
}

// By the consumers of one block, for an output row of shared.call: the phase is shared.phase.choose. Writes the row's likeliest
// token as its Choice, whatever the sampling is, and if Generation::topk says so the best ones as TopLogprobs, most likely first,
// equal ones by the draft's id; those that there are not have probability 0. Regions of scratch and partials must be free, and
// are when it returns.
DEVICE void list_likeliest(const Program& program, Shared& shared, u32 row) {
    const ChoosePhase& phase = shared.phase.choose;
    const u64 topk = program.control + __builtin_offsetof(Control, generation) + __builtin_offsetof(Generation, topk);
    const u32 wanted = smaller(load_l2(topk), TOP_LIMIT);
    const u64 best = best_of_blocks(shared, program.workspace + phase.best, row);
    const u64 choice = program.workspace + phase.choices + sizeof(Choice) * row;
    const u64 top = program.workspace + phase.top + sizeof(TopLogprob) * TOP_LIMIT * row;
    const bool is_made = is_choosable(best);
    float logprob = 0.0f;
    if (wanted > 0) {
        if (threadIdx.x < wanted) {
            store_word(top + 8 * threadIdx.x, 0);
            store_float(top + 8 * threadIdx.x + 4, MINUS_INFINITY);
        }
        // Orders these before the list that takes their place.
        consumers_meet();
        if (is_made) {
            const float scale = program.logit_scale;
            const u64 scaled = key_of(finite_logit(__fmul_rn(logit_of(best), scale)), token_of(best));
            const u64 logits = program.workspace + phase.logits + 4ull * row * phase.vocab_size;
            const u64 keys = program.workspace + phase.candidates + 8ull * blockIdx.x * phase.vocab_size;
            logprob =
                log_probabilities(shared, logits, phase.vocab_size, scaled, token_of(best), wanted, top, keys, scale);
            // Orders the list before its ids are replaced, and who still reads the regions before their next use.
            consumers_meet();
            const u32 listed = smaller(wanted, phase.vocab_size);
            if (threadIdx.x < listed && program.target_ids)
                store_word(top + 8 * threadIdx.x, target_id(program, load_l2(top + 8 * threadIdx.x)));
        }
    }
    if (threadIdx.x == 0) {
        store_word(choice, is_made ? target_id(program, token_of(best)) : 0);
        store_word(choice + 4, 1);
        store_float(choice + 8, logprob);
        store_word(choice + 12, is_made ? CHOICE_MADE : CHOICE_NONE_LEFT);
    }
}
