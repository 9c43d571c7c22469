// Tokens that rejection sampling emits, seed after seed: a draft draws a tree of two levels, the target decides on it.
#include "rejection.cuh"

struct Game {
    u64 control;    // Control, of each block
    u64 workspace;  // of each block, what the phases name
    u64 workspace_bytes;
    u64 target, draft;  // float [1 + VOCAB_SIZE][VOCAB_SIZE]: logits after the root, then after each token
    u64 emitted;        // u32 [sample][2]
    u64 seed;           // of the first sample
    u32 samples;
    u32 planted;        // Planted
    ChoosePhase phases[3];  // of the draft's levels, of the target
};

// What is done wrongly, to show that it is found.
enum Planted {
    PLANTED_NOTHING,
    PLANTED_NO_RESIDUAL,  // where all guesses are rejected the token is drawn from the target's distribution, not from what is left
    PLANTED_LIKELIEST,    // guesses are not drawn: the likeliest are taken
};

// A row of logits of a phase: those after a token, or after the root if it is NONE. Makes it known to all.
DEVICE void place_logits(const Program& program, Shared& shared, const ChoosePhase& phase, u64 logits, u32 row, u32 token) {
    const float* const from = (const float*)logits + (token == NONE ? 0 : 1 + token) * VOCAB_SIZE;
    const u64 to = program.workspace + phase.logits + 4ull * row * VOCAB_SIZE;
    for (u32 i = threadIdx.x; i < VOCAB_SIZE; i += CONSUMER_THREADS) store_float(to + 4ull * i, from[i]);
    // The phase's logits and all reads of the phase before, before they are used and it is replaced.
    consumers_meet();
    if (threadIdx.x == 0) shared.phase.choose = phase;
    const u64 largest = largest_of(shared, to, VOCAB_SIZE);
    // The first block's share has it; what other blocks would say is 0.
    if (threadIdx.x == 0 && phase.best != NONE) *(u64*)(program.workspace + phase.best + 8ull * row * gridDim.x) = largest;
    consumers_meet();
}

// Instead of the draws below the root: the likeliest.
DEVICE void plant_likeliest(const Program& program, const ChoosePhase& phase, const Generation& generation, const float* logits) {
    if (threadIdx.x == 0) {
        u32 taken = 0;
        for (u32 i = 0; i < generation.topk; i++) {
            u32 best = NONE;
            for (u32 token = 0; token < VOCAB_SIZE; token++)
                if (!(taken >> token & 1) && (best == NONE || logits[token] > logits[best])) best = token;
            taken |= 1u << best;
            store_word(program.workspace + phase.top + 8 * i, best);
            store_float(program.workspace + phase.top + 8 * i + 4, -1.0f);
        }
    }
    // The list, to all.
    consumers_meet();
}

// Grows the tree of a sample.
DEVICE void draft_tree(const Program& program, Shared& shared, const Game& own) {
    Control& control = control_of(program);
    const bool is_heads = control.generation.drafter == DRAFTER_HEADS;
    if (threadIdx.x == 0) {
        begin_growth(control.growth);
        shared.call.segment = is_heads ? SEGMENT_DRAFT : SEGMENT_EXTEND;
    }
    place_logits(program, shared, own.phases[0], own.draft, 0, NONE);
    draw_guesses(program, shared, 0);
    if (own.planted == PLANTED_LIKELIEST) plant_likeliest(program, own.phases[0], control.generation, (const float*)own.draft);
    name_draws(program, program.workspace + own.phases[0].top, is_heads, ROW_LIMIT);
    if (threadIdx.x == 0) shared.call.segment = SEGMENT_DRAFT;
    const u32 width = control.growth.width;
    for (u32 row = 0; row < (is_heads ? 1 : width); row++) {
        place_logits(program, shared, own.phases[1], own.draft, row, control.growth.frontier[row].token);
        draw_guesses(program, shared, row);
    }
    name_draws(program, program.workspace + own.phases[1].top, is_heads, ROW_LIMIT);
    finish_growth(program, 1 + control.growth.kept_count);
}

// The step over that tree.
DEVICE void begin_step(const Program& program, Shared& shared) {
    const Tree& tree = control_of(program).tree;
    if (threadIdx.x == 0) {
        Call& call = shared.call;
        call.segment = SEGMENT_TARGET;
        call.rows = call.output_rows = tree.nodes;
        call.length = control_of(program).generation.known - 1;
        for (u32 row = 0; row < tree.nodes; row++) {
            call.tokens[row] = tree.tokens[row];
            call.parents[row] = tree.parents[row];
            call.outputs[row] = row;
            call.positions[row] = row == 0 ? call.length : call.positions[tree.parents[row]] + 1;
        }
    }
    // The call, to all.
    consumers_meet();
}

// The token after a row of the step; `guess` becomes the row that had guessed it, or NONE.
DEVICE u32 decide(const Program& program, Shared& shared, const Game& own, u32 row, u32& guess) {
    const ChoosePhase& phase = own.phases[2];
    const u64 choice = program.workspace + phase.choices + sizeof(Choice) * row;
    place_logits(program, shared, phase, own.target, row, row == 0 ? NONE : shared.call.tokens[row]);
    verify_guesses(program, shared, row);
    // The choice, to all.
    consumers_meet();
    u32 token = load_l2(choice);
    guess = NONE;
    bool has_guesses = false;
    for (u32 next = row + 1; next < shared.call.rows; next++) {
        if (shared.call.parents[next] != row) continue;
        has_guesses = true;
        if (shared.call.tokens[next] == token) guess = next;
    }
    // All reads of the call, before the next one replaces it.
    consumers_meet();
    if (own.planted != PLANTED_NO_RESIDUAL || !has_guesses || guess != NONE) return token;
    choose(program, shared, control_of(program).sampling, row);
    consumers_meet();
    token = load_l2(choice);
    return token;
}

// A block emits two tokens for each of its samples.
KERNEL __launch_bounds__(THREADS) emit(const Game* game) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Game own = *game;
    Program program = {};
    program.control = own.control + blockIdx.x * sizeof(Control);
    program.workspace = own.workspace + blockIdx.x * own.workspace_bytes;
    program.logit_scale = 1.0f;
    Control& control = control_of(program);
    for (u32 sample = blockIdx.x; sample < own.samples; sample += gridDim.x) {
        if (threadIdx.x == 0) control.sampling.seed = own.seed + sample;
        consumers_meet();
        draft_tree(program, shared, own);
        begin_step(program, shared);
        u32 guess = NONE, ignored = NONE;
        const u32 first = decide(program, shared, own, 0, guess);
        u32 second = 0;
        if (guess != NONE) {
            second = decide(program, shared, own, guess, ignored);
        } else {
            // The next round's first token, which nobody has guessed.
            if (threadIdx.x == 0) {
                shared.call.rows = shared.call.output_rows = 1;
                shared.call.positions[0]++;
            }
            place_logits(program, shared, own.phases[2], own.target, 0, first);
            choose(program, shared, control.sampling, 0);
            consumers_meet();
            second = load_l2(program.workspace + own.phases[2].choices);
        }
        if (threadIdx.x == 0) {
            ((u32*)own.emitted)[2 * sample] = first;
            ((u32*)own.emitted)[2 * sample + 1] = second;
        }
        consumers_meet();
    }
}
