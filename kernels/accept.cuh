// The end of a call: which tokens it gave, and what the next call works on. Thread 0 of block 0 decides; the others help to
// count tokens.
#pragma once
#include "control.cuh"
#include "counts.cuh"
#include "ngram.cuh"
#include "rounds.cuh"
#include "token_ring.cuh"

// Other blocks wrote it.
DEVICE Choice read_choice(u64 choices, u32 row) {
    const uint4 words = load_l2_vector(choices + (u64)row * sizeof(Choice));
    return {words.x, words.y, float_of(words.z), words.w};
}

// Whether the row after output row `row` is a guess that the token is.
DEVICE bool is_guessed(const Call& call, u32 row, u32 token) {
    const u32 next = call.outputs[row] + 1;
    return next < call.rows && call.tokens[next] == token;
}

// The tokens that a call chose, before it is said what they mean.
struct Given {
    u32 count;
    u32 finish;
};

// Takes choices along the chain of rows while each row's token is what the row before it chose; ends at a stop id or limit.
DEVICE Given walk_choices(const Program& program, const Call& call, u64 choices, const Generation& generation) {
    u32* const history = (u32*)program.history;
    Given given = {0, FINISH_NONE};
    for (u32 row = 0; row < call.output_rows; row++) {
        const Choice choice = read_choice(choices, row);
        if (choice.status != CHOICE_MADE) {
            given.finish = FINISH_NOTHING_LEFT;
            break;
        }
        history[generation.known + given.count] = choice.token;
        given.count++;
        for (u32 stop = 0; stop < generation.stop_count; stop++)
            if (generation.stops[stop] == choice.token) given.finish = FINISH_STOP;
        if (given.finish == FINISH_NONE && generation.known + given.count >= generation.limit) given.finish = FINISH_LENGTH;
        if (given.finish != FINISH_NONE || !is_guessed(call, row, choice.token)) break;
    }
    return given;
}

DEVICE void show_tokens(const Program& program, const Call& call, u64 choices, u64 top, const Control& control, u32 count) {
    const Generation& generation = control.generation;
    // Memory of the host is far: it is asked only where lists follow.
    const bool has_lists = control.sampling.top_logprobs != NONE;
    const u32 capacity = has_lists ? load_acquire_system(HOST_WORD(program, capacity)) : 0;
    const u32 first = generation.known - generation.begin;
    for (u32 i = 0; i < count; i++) {
        const Choice choice = read_choice(choices, i);
        // Of a step all rows but the first are guesses; of a prompt's chunk none.
        const u32 guesses = call.segment == SEGMENT_TARGET ? call.rows - 1 : 0;
        const u32 draft = guesses << 1 | is_guessed(call, i, choice.token);
        ring_put(program, first + i, {choice.token, draft, choice.logprob, steps_of(generation)});
        if (!has_lists) continue;
        const u64 list = ring_top(program.host, capacity, first + i);
        for (u32 j = 0; j < smaller(control.sampling.top_logprobs, TOP_LIMIT); j++) {
            const u64 from = top + (u64)(i * TOP_LIMIT + j) * sizeof(TopLogprob);
            store_relaxed_system(list + 8 * j, load_l2(from));
            store_relaxed_system(list + 8 * j + 4, load_l2(from + 4));
        }
    }
}

// By all consumers of block 0 at the end of a call of the target.
DEVICE void finish_step(const Program& program, Shared& shared) {
    const ChoosePhase& phase = shared.phase.choose;
    Control& control = control_of(program);
    Generation& generation = control.generation;
    const Call& call = shared.call;
    const u64 choices = program.workspace + phase.choices, top = program.workspace + phase.top;
    if (threadIdx.x == 0) {
        Given given = {0, FINISH_NONE};
        if (generation.mode == MODE_CALL) {
            given.finish = FINISH_CALL;
        } else if (call.output_rows > 0) {
            given = walk_choices(program, call, choices, generation);
            show_tokens(program, call, choices, top, control, given.count);
        }
        shared.words[0] = given.count;
        shared.words[1] = given.finish;
    }
    // Thread 0's decision and what it wrote to the history, to all that count tokens.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const u32 count = shared.words[0], known = generation.known + count;
    if (control.sampling.penalises && count > 0)
        count_tokens(program, control.sampling, generation.known, (const u32*)program.history + generation.known, count);
    const u32 wanted = shared.words[1] != FINISH_NONE ? 0 : smaller(generation.draft_tokens, generation.limit - known - 1);
    u32 guesses = 0;
    if (wanted > 0 && generation.drafter == DRAFTER_LOOKUP) guesses = guess_tokens(program, shared, known, wanted);
    // Orders the others' reads of the control block before thread 0 changes it.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x != 0) return;
    if (generation.mode == MODE_GENERATE) {
        // What a draft has computed of its guesses stays as far as they came true; it never saw its last one.
        if (generation.guesses > 0) generation.draft_length = generation.known + smaller(count - 1, generation.guesses - 1);
        generation.length = call.length + (call.segment == SEGMENT_PREFILL ? call.rows : count);
        generation.known = known;
        generation.wanted = smaller(wanted, VERIFY_ROWS - 1);
        generation.guesses = guesses;
    }
    generation.finish = shared.words[1];
}

// By thread 0 of block 0 at the end of a call of the draft.
DEVICE void finish_guess(const Program& program, Shared& shared) {
    Generation& generation = control_of(program).generation;
    const Call& call = shared.call;
    if (generation.mode == MODE_CALL) {
        generation.finish = FINISH_CALL;
        return;
    }
    if (call.segment != SEGMENT_DRAFT) generation.draft_length = call.length + call.rows;
    if (call.output_rows == 0) return;
    const Choice choice = read_choice(program.workspace + shared.phase.choose.choices, 0);
    if (choice.status == CHOICE_MADE && choice.token < VOCAB_SIZE) {
        ((u32*)program.history)[generation.known + generation.guesses] = choice.token;
        generation.guesses++;
    } else {
        // It has nothing to say that the target could.
        generation.wanted = generation.guesses;
    }
}

// By all consumers of block 0, after every block has arrived. shared.words[2] says whether the host wants an end.
DEVICE void finish_call(const Program& program, Shared& shared) {
    Control& control = control_of(program);
    Generation& generation = control.generation;
    const bool is_step = is_target(shared.call.segment);
    if (is_step) finish_step(program, shared);
    if (threadIdx.x != 0) return;
    if (!is_step) finish_guess(program, shared);
    if (generation.finish == FINISH_NONE && shared.words[2] != 0) generation.finish = FINISH_CANCELLED;
    write_call(program, control);
    const u32 round = control.round;
    if (is_step && shared.steps == program.rounds || generation.finish != FINISH_NONE) {
        control.pause_round = round;
        control.launch_round = round;
    }
    // Of a guess the host learns nothing before it is verified.
    if (generation.mode == MODE_GENERATE && (is_step || generation.finish != FINISH_NONE)) ring_release(program, generation);
    // The call and the state, to every block that acquires the round.
    store_release(program.control, round + 1);
}
