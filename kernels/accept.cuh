// The end of a call: which tokens it gave, and what the next call works on. Thread 0 of block 0 decides; the others help to count
// tokens and to grow trees.
#pragma once
#include "commit.cuh"
#include "control.cuh"
#include "counts.cuh"
#include "grow.cuh"
#include "ngram.cuh"
#include "planner.cuh"
#include "rounds.cuh"
#include "static_tree.cuh"
#include "token_ring.cuh"
#include "typical.cuh"

// Other blocks wrote it.
DEVICE Choice read_choice(u64 choices, u32 row) {
    const uint4 words = load_l2_vector(choices + (u64)row * sizeof(Choice));
    return {words.x, words.y, float_of(words.z), words.w};
}

// The row after output row `output` that is a guess that the token is; NONE if nobody guessed it.
DEVICE u32 guess_of(const Call& call, u32 output, u32 token) {
    const u32 row = call.outputs[output];
#pragma unroll 1
    for (u32 next = row + 1; next < call.rows; next++)
        if (call.parents[next] == row && call.tokens[next] == token) return next;
    return NONE;
}

// The tokens that a call gave, before it is said what they mean.
struct Given {
    u32 count;
    u32 finish;
};

// One of them.
struct Taken {
    u32 token;
    u32 is_guessed;
    float logprob;
};
static_assert(SCRATCH_BYTES >= ROW_LIMIT * sizeof(Taken), "room for the tokens of a call");

// The row after output row `row` on the path to row `goal` below it; NONE if it is that row.
DEVICE u32 next_towards(const Call& call, u32 row, u32 goal) {
    u32 next = NONE;
#pragma unroll 1
    for (u32 up = goal; up != row; up = call.parents[up]) next = up;
    return next;
}

// Goes down the tree while a row's token is a guess after it, or to row `goal`, if that is not NONE; ends at a stop id or limit. The
// output rows become the path; tokens go to `taken`. By one thread.
DEVICE Given walk(const Program& program, const Call& call, u64 choices, Generation& generation, u32 goal, Taken* taken) {
    u32* const history = (u32*)program.history;
    Given given = {0, FINISH_NONE};
#pragma unroll 1
    for (u32 output = 0; output < call.output_rows;) {
        const Choice choice = read_choice(choices, output);
        if (choice.status != CHOICE_MADE) {
            given.finish = FINISH_NOTHING_LEFT;
            break;
        }
        // Of a step all rows have outputs.
        const u32 next = goal == NONE ? guess_of(call, output, choice.token) : next_towards(call, output, goal);
        Taken own = {choice.token, next != NONE, choice.logprob};
        if (goal != NONE && next != NONE) {
            own.token = call.tokens[next];
            own.logprob = judgement_of().judged[next].logprob;
        }
        generation.path[given.count] = (u8)output;
        history[generation.known + given.count] = own.token;
        taken[given.count] = own;
        given.count++;
#pragma unroll 1
        for (u32 stop = 0; stop < generation.stop_count; stop++)
            if (generation.stops[stop] == own.token) given.finish = FINISH_STOP;
        if (given.finish == FINISH_NONE && generation.known + given.count >= generation.limit) given.finish = FINISH_LENGTH;
        if (given.finish != FINISH_NONE) break;
        output = next;
    }
    return given;
}

DEVICE void show_tokens(const Program& program, const Call& call, const Taken* taken, u64 top, const Control& control, u32 count) {
    const Generation& generation = control.generation;
    // Memory of the host is far: it is asked only where lists follow.
    const bool has_lists = control.sampling.top_logprobs != NONE;
    const u32 capacity = has_lists ? load_acquire_system(HOST_WORD(program, capacity)) : 0;
    const u32 first = generation.known - generation.begin;
    const bool is_step = call.segment == SEGMENT_TARGET;
    // Of a step all rows but the first are guesses; of a prompt's chunk none.
    const u32 looked_up = HAS_DRAFT && LOOKS_UP ? generation.looked_up : 0;
    const u32 origin = is_step ? looked_up << 16 | is_step << 15 | control.tree.levels << 8 | (call.rows - 1) << 1 : 0;
#pragma unroll 1
    for (u32 i = 0; i < count; i++) {
        const u32 row = generation.path[i];
        const Taken own = taken[i];
        ring_put(program, first + i, {own.token, origin | own.is_guessed, own.logprob, steps_of(generation)});
        if (!has_lists) continue;
        const u64 list = ring_top(program.host, capacity, first + i);
#pragma unroll 1
        for (u32 j = 0; j < smaller(control.sampling.top_logprobs, TOP_LIMIT); j++) {
            const u64 from = top + (u64)(row * TOP_LIMIT + j) * sizeof(TopLogprob);
            store_relaxed_system(list + 8 * j, load_l2(from));
            store_relaxed_system(list + 8 * j + 4, load_l2(from + 4));
        }
    }
}

// The tree that was verified, to the host. By all consumers.
DEVICE void show_tree(const Program& program, const Control& control) {
    const Tree& tree = control.tree;
    const bool has_lists = control.sampling.top_logprobs != NONE;
    const u64 round = ring_round(program.host, load_acquire_system(HOST_WORD(program, capacity)), has_lists,
                                 control.generation.rounds);
    if (threadIdx.x == 0) store_relaxed_system(round, tree.nodes);
    if (threadIdx.x >= tree.nodes) return;
    const u64 node = round + 16 + 16 * threadIdx.x;
    store_relaxed_system(node, tree.tokens[threadIdx.x]);
    store_relaxed_system(node + 4, tree.parents[threadIdx.x]);
    store_relaxed_system(node + 8, bits_of(tree.scores[threadIdx.x]));
}

// The tree of the next round, as far as it needs no draft: what lookup guesses, or the root alone; returns the guesses. Beside a draft
// lookup guesses where that promises as much as the draft has come to, or the draft pauses. By all consumers, after what is known has
// been counted and all have read the tree before.
DEVICE u32 begin_tree(const Program& program, Control& control, u32 known, u32 levels, bool pauses) {
    const Generation& generation = control.generation;
    Tree& tree = control.tree;
    if (threadIdx.x == 0) {
        tree.tokens[0] = ((const u32*)program.history)[known - 1];
        tree.parents[0] = NONE;
        tree.scores[0] = 0.0f;
    }
    u32 guesses = 0;
    const bool is_alone = LOOKS_UP && generation.drafter == DRAFTER_LOOKUP;
    const bool is_beside = HAS_DRAFT && LOOKS_UP && generation.looks_up;
    if (levels > 0 && (is_alone && !pauses || is_beside)) {
        const Planner& own = is_beside ? control.lookup : control.planner;
        guesses = guess_tokens(program, tree, known, levels);
        if (own.automatic || is_beside) {
            const Weighed weighed = weigh_chain(own, tree, guesses);
            guesses = weighed.guesses;
            if (is_beside && !pauses && weighed.worth < promise_of(control.planner)) guesses = 0;
        }
    }
    // All reads of what the planners know, before thread 0 changes it.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x == 0) {
        tree.nodes = 1 + guesses;
        tree.levels = guesses;
    }
    return guesses;
}

// By all consumers of block 0 at the end of a call of the target.
DEVICE void finish_step(const Program& program, Shared& shared) {
    const ChoosePhase& phase = shared.phase.choose;
    Control& control = control_of(program);
    Generation& generation = control.generation;
    const Call& call = shared.call;
    const u64 choices = program.workspace + phase.choices, top = program.workspace + phase.top;
    const bool is_verified = call.segment == SEGMENT_TARGET && generation.mode == MODE_GENERATE;
    if (GUESSES && is_verified && generation.traces) show_tree(program, control);
    u32 goal = NONE;
    if (GUESSES && call.chooses == CHOOSES_TYPICAL) goal = longest_accepted(program, call);
    if (threadIdx.x == 0) {
        Given given = {0, FINISH_NONE};
        if (generation.mode == MODE_CALL) {
            given.finish = FINISH_CALL;
        } else if (call.output_rows > 0) {
            Taken* const taken = (Taken*)shared_region(SCRATCH_AT);
            given = walk(program, call, choices, generation, goal, taken);
            show_tokens(program, call, taken, top, control, given.count);
        }
        shared.words[0] = given.count;
        shared.words[1] = given.finish;
    }
    // Thread 0's decision and what it wrote to the history and the path, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (generation.mode == MODE_CALL) {
        if (threadIdx.x == 0) generation.finish = shared.words[1];
        return;
    }
    const u32 count = shared.words[0], known = generation.known + count;
    const bool is_over = shared.words[1] != FINISH_NONE;
    if (control.sampling.penalises && count > 0)
        count_tokens(program, control.sampling, generation.known, (const u32*)program.history + generation.known, count);
    bool is_straight = true;
#pragma unroll 1
    for (u32 j = 0; j < count; j++) is_straight = is_straight && generation.path[j] == j;
    Planner& planner = control.planner;
    // A draft that was asked counts, also where none of what it said was worth its verification.
    const bool was_drafted = GUESSES && (control.growth.levels > 0 || control.tree.nodes > 1);
    const bool looked_up = HAS_DRAFT && LOOKS_UP && generation.looked_up;
    if ((planner.automatic || HAS_DRAFT && LOOKS_UP && generation.looks_up) && is_verified && count > 0 && was_drafted)
        observe_round(program, shared, looked_up ? control.lookup : planner, count);
    // What was learnt, to all; and all reads of the tree, before it is replaced.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const u32 useful = !GUESSES || is_over || count == 0 ? 0 : smaller(generation.levels, generation.limit - known - 1);
    const bool pauses = planner.automatic && planner.left > 0 && useful > 0;
    const u32 levels = pauses ? 0 : useful;
    const u32 guesses = begin_tree(program, control, known, useful, pauses);
    if (threadIdx.x != 0) return;
    if (pauses) planner.left--;
    if (is_verified && !was_drafted) planner.behind = 1;
    if (looked_up) planner.passed += count;
    generation.looked_up = guesses > 0 && generation.drafter != DRAFTER_LOOKUP;
    planner.drafted = 0.0f;
    generation.rounds += is_verified;
    generation.length = call.length + (is_verified ? count : call.rows);
    generation.moved = is_verified && !is_straight ? count : 0;
    generation.last_row = is_verified ? generation.path[larger(count, 1u) - 1] : call.rows - 1;
    // Of a prompt's chunk all rows stay.
    if (!is_verified)
#pragma unroll 1
        for (u32 row = 0; row < call.rows; row++) generation.path[row] = (u8)row;
    generation.known = known;
    generation.finish = shared.words[1];
    const bool drafts = levels > 0 && generation.nodes > 1 && generation.drafter != DRAFTER_LOOKUP && guesses == 0;
    generation.drafting = drafts ? DRAFTING_ROOT : DRAFTING_DONE;
    // Where nothing is drafted it says so.
    begin_growth(control.growth);
}

// Whether the draft guesses one level more; `nodes` of the tree so far are worth their verification. By all consumers.
DEVICE bool goes_deeper(const Program& program, u32& nodes) {
    const Control& control = control_of(program);
    const Generation& generation = control.generation;
    const Growth& growth = control.growth;
    nodes = smaller(generation.nodes, VERIFY_ROWS);
    const u32 limit = nodes;
    // Heads have guessed already, nothing is to be run.
    const bool has_room = generation.drafter == DRAFTER_HEADS || growth.rows + growth.width <= ROW_CAPACITY;
    bool is_possible = growth.levels < levels_left(generation) && growth.width > 0 && has_room;
    if (generation.acceptance == ACCEPT_REJECTION) {
        nodes = 1 + growth.kept_count;
        is_possible = is_possible && nodes + growth.width <= limit;
        if (!control.planner.automatic) return is_possible;
        weigh_draws(program, limit);
        return is_possible && deeper_pays(control.planner, growth, limit);
    }
    if (!control.planner.automatic) return is_possible;
    weigh_growth(program, limit);
    nodes = weighing_of().nodes;
    return is_possible && deeper_pays(control.planner, growth, limit);
}

// By all consumers of block 0 at the end of a call of the draft.
DEVICE void finish_guess(const Program& program, Shared& shared) {
    Control& control = control_of(program);
    Generation& generation = control.generation;
    const Call& call = shared.call;
    if (generation.mode == MODE_CALL) {
        if (threadIdx.x == 0) generation.finish = FINISH_CALL;
        return;
    }
    if (threadIdx.x == 0 && call.segment != SEGMENT_DRAFT) generation.draft_length = call.length + call.rows;
    if (call.output_rows == 0) return;
    const u64 lists = program.workspace + shared.phase.choose.top;
    u32 nodes = 0;
    bool goes_on = false;
    const bool is_drawn = generation.acceptance == ACCEPT_REJECTION;
    const u32 most = smaller(generation.nodes, VERIFY_ROWS) - 1;
    if (HAS_HEADS && generation.drafter == DRAFTER_HEADS) {
        do {
            // Lists of the heads follow each other, of VERIFY_ROWS rows each.
            const u64 own = (u64)control.growth.levels * VERIFY_ROWS * TOP_LIMIT * sizeof(TopLogprob);
            if (is_drawn) name_draws(program, lists + own, true, most);
            else if (control.static_tree.nodes > 0) name_nodes(program, shared, lists, levels_left(generation));
            else name_level(program, shared, lists + own, true);
        } while (goes_deeper(program, nodes));
    } else {
        if (is_drawn) name_draws(program, lists, false, most);
        else name_level(program, shared, lists, false);
        goes_on = goes_deeper(program, nodes);
    }
    if (!goes_on) finish_growth(program, nodes);
    if (threadIdx.x != 0) return;
    generation.drafting = goes_on ? DRAFTING_LEVEL : DRAFTING_DONE;
    if (!goes_on) control.tree.levels = levels_of(control.tree);
}

// By all consumers of block 0, after every block has arrived. shared.words[2] says whether the host wants an end.
DEVICE void finish_call(const Program& program, Shared& shared) {
    Control& control = control_of(program);
    Generation& generation = control.generation;
    const bool is_step = is_target(shared.call.segment);
    if (threadIdx.x == 0) time_arrival(control, shared.call);
    // What a step costs now, before what came of it is learnt and the next round is weighed.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (!HAS_DRAFT || is_step) finish_step(program, shared);
    else finish_guess(program, shared);
    // What thread 0 has decided, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const bool is_over = generation.finish != FINISH_NONE || shared.words[2] != 0;
    // No call follows that would move them. Without a draft there are chains only, which are where they belong.
    if (HAS_DRAFT && is_over && generation.moved > 0)
        move_rows(program.kv[0], generation.length - generation.moved, generation.moved, generation.path, threadIdx.x,
                  CONSUMER_THREADS);
    // What all have decided by, before thread 0 changes it.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x != 0) return;
    if (is_over) generation.moved = 0;
    time_decision(control, shared.call);
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
