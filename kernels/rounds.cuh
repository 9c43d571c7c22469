// Which call comes next. A round of a generation is a step of the target, after calls of the draft if there is one that is a model:
//
//   DRAFT_PREFILL ...  what is known of the sequence and the draft has not seen, while it is much
//   EXTEND             the rest of it; the first level of a tree comes of its last row
//   DRAFT ...          the best nodes of each level but the last, for the next one; of heads, all levels at once
//   TARGET             the last known token and all guesses, a tree
//
// Before the first round PREFILL works through the prompt. Hidden states of a call of the target are there until the next one:
// a layer that is fed them follows each at once.
#pragma once
#include "control.cuh"
#include "guesses.cuh"

// The fewest row tiles that products are compiled for and that hold the rows.
DEVICE u32 row_tiles_of(u32 rows) {
#pragma unroll 1
    for (u32 tiles = 1; tiles < 8; tiles *= 2)
        if (ROW_TILE_SET & tiles && rows <= 8 * tiles) return tiles;
    return 8;
}

// Calls of the target so far.
DEVICE u32 steps_of(const Generation& generation) {
    return generation.runs[SEGMENT_PREFILL] + generation.runs[SEGMENT_TARGET];
}

// Levels that the tree of the next round may have: no guess is of use after the last token.
DEVICE u32 levels_left(const Generation& generation) {
    return smaller(generation.levels, generation.limit - generation.known - 1);
}

// A call of `rows` rows whose last `outputs` have outputs, after `length` positions; its rows are still to be said.
DEVICE Call& begin_call(Control& control, u32 segment, u32 length, u32 rows, u32 outputs) {
    Call& call = control.call;
    call.segment = segment;
    call.run = ++control.generation.runs[segment];
    call.rows = rows;
    call.row_tiles = row_tiles_of(rows);
    call.output_rows = outputs;
    call.output_tiles = row_tiles_of(larger(outputs, 1u));
    call.length = length;
    call.chooses = CHOOSES_TOKENS;
    call.expected = NONE;
    call.moved = 0;
    call.base = 0;
    call.listed = 0;
    // Who draws guesses needs all logits.
    if (HAS_DRAFT && !is_target(segment) && control.generation.acceptance != ACCEPT_REJECTION)
        call.listed = outputs * control.generation.topk <= ROW_LIMIT ? control.generation.topk : 0;
#pragma unroll 1
    for (u32 row = 0; row < rows; row++) call.sources[row] = (u8)row;
#pragma unroll 1
    for (u32 i = 0; i < outputs; i++) call.outputs[i] = rows - outputs + i;
    return call;
}

// A token as a draft is fed it: another one for those that it does not know, which come from the target's padding, never from text.
DEVICE u32 fed_token(u32 token) { return token < DRAFT_VOCAB_SIZE ? token : 0; }

// A chain from position `from` on, of the history's tokens; or of those that follow them, `ahead` by 1.
DEVICE void write_chain(const Program& program, Control& control, u32 segment, u32 from, u32 rows, u32 outputs, u32 ahead = 0) {
    Call& call = begin_call(control, segment, from, rows, outputs);
    const u32* const history = (const u32*)program.history;
#pragma unroll 1
    for (u32 row = 0; row < rows; row++) {
        const u32 token = history[from + row + ahead];
        call.tokens[row] = is_target(segment) ? token : fed_token(token);
        call.positions[row] = from + row;
        call.parents[row] = row == 0 ? NONE : row - 1;
    }
}

DEVICE void expect(Call& call, u32 segment, u32 rows, u32 outputs) {
    call.expected = segment;
    call.expected_rows = rows;
    call.expected_outputs = outputs;
}

// A step over the round's tree.
DEVICE void write_step(Control& control) {
    Generation& generation = control.generation;
    const Tree& tree = control.tree;
    const u32 rows = tree.nodes;
    Call& call = begin_call(control, SEGMENT_TARGET, generation.length, rows, rows);
#pragma unroll 1
    for (u32 row = 0; row < rows; row++) {
        const u32 parent = tree.parents[row];
        call.tokens[row] = tree.tokens[row];
        call.parents[row] = parent;
        call.positions[row] = parent == NONE ? generation.length : call.positions[parent] + 1;
    }
    // The first token after the prompt is nobody's guess.
    if (generation.known > control.sampling.prompt_length) {
        if (generation.acceptance == ACCEPT_TYPICAL) call.chooses = CHOOSES_TYPICAL;
        if (generation.acceptance == ACCEPT_REJECTION) call.chooses = CHOOSES_VERIFIED;
    }
    call.moved = generation.moved;
#pragma unroll 1
    for (u32 j = 0; j < generation.moved; j++) call.path[j] = generation.path[j];
    // If it does not end, a round like this one follows.
    if (!HAS_DRAFT || generation.levels == 0 || generation.drafter == DRAFTER_LOOKUP) expect(call, SEGMENT_TARGET, rows, rows);
    else expect(call, generation.drafter == DRAFTER_HEADS ? SEGMENT_DRAFT : SEGMENT_EXTEND, 1, 1);
}

// What the draft's call before the last level's will be followed by: the width of levels is that of the first, mostly.
DEVICE void expect_guesses(Control& control, u32 levels) {
    const Generation& generation = control.generation;
    if (levels < levels_left(generation)) expect(control.call, SEGMENT_DRAFT, generation.topk, generation.topk);
    else expect(control.call, SEGMENT_TARGET, generation.nodes, generation.nodes);
}

// What is known, for the draft, as far as it can be fed: guesses come of the last row, if they are wanted.
DEVICE void write_root(const Program& program, Control& control) {
    const Generation& generation = control.generation;
    const bool is_layer = generation.drafter == DRAFTER_LAYER, is_wanted = generation.drafting == DRAFTING_ROOT;
    const u32 from = generation.draft_length, behind = (is_layer ? generation.length : generation.known) - from;
    const u32 rows = smaller(behind, behind <= VERIFY_ROWS ? VERIFY_ROWS : PREFILL_ROWS);
    const u32 segment = behind <= VERIFY_ROWS ? SEGMENT_EXTEND : SEGMENT_DRAFT_PREFILL;
    write_chain(program, control, segment, from, rows, is_wanted && rows == behind, is_layer);
    if (is_layer)
#pragma unroll 1
        for (u32 row = 0; row < rows; row++) control.call.sources[row] = generation.path[row];
    if (rows < behind) return;
    if (is_wanted) expect_guesses(control, 1);
    else expect(control.call, generation.known - generation.length > 1 ? SEGMENT_PREFILL : SEGMENT_TARGET, 1, 1);
}

// The row that the last token came of, for heads.
DEVICE void write_heads(Control& control) {
    const Generation& generation = control.generation;
    Call& call = begin_call(control, SEGMENT_DRAFT, generation.length, 1, 1);
    call.tokens[0] = 0;
    call.positions[0] = generation.length;
    call.parents[0] = NONE;
    call.sources[0] = (u8)generation.last_row;
    expect(call, SEGMENT_TARGET, generation.nodes, generation.nodes);
}

// The frontier, for the draft. Where all it has been fed of the tree is a chain, the rows are where a sequence has them; else they
// are rows of a tree that goes on from call to call.
DEVICE void write_level(Control& control) {
    const Generation& generation = control.generation;
    const Growth& growth = control.growth;
    const u32 base = growth.rows, rows = base + growth.width;
    bool is_chain = true;
#pragma unroll 1
    for (u32 row = 0; row < rows; row++) is_chain = is_chain && growth.parents[row] == row - 1;
    const u32 length = generation.draft_length;
    Call& call = begin_call(control, SEGMENT_DRAFT, is_chain ? length + base : length, growth.width, growth.width);
#pragma unroll 1
    for (u32 row = 0; row < growth.width; row++) {
        call.tokens[row] = fed_token(growth.frontier[row].token);
        // What a layer is fed is what its last call left after the parent: of the first level after the root.
        call.sources[row] = growth.levels == 1 ? 0 : (u8)(growth.parents[base + row] - growth.last_row);
    }
    if (is_chain) {
        call.positions[0] = length + base;
        call.parents[0] = NONE;
    } else {
        call.base = base;
#pragma unroll 1
        for (u32 row = 0; row < rows; row++) {
            const u32 parent = growth.parents[row];
            call.parents[row] = parent;
            call.positions[row] = parent == NONE ? length : call.positions[parent] + 1;
        }
    }
    expect_guesses(control, growth.levels + 1);
}

// The call after what the generation says; none if it has ended.
DEVICE void write_call(const Program& program, Control& control) {
    const Generation& generation = control.generation;
    const u32 left = generation.known - generation.length;
    if (generation.finish != FINISH_NONE) {
        control.call.segment = NONE;
    } else if (HAS_DRAFT && generation.drafter == DRAFTER_LAYER && generation.draft_length < generation.length) {
        write_root(program, control);
    } else if (left > 1) {
        const u32 rows = smaller(left, PREFILL_ROWS), after = left - rows, next = smaller(after, PREFILL_ROWS);
        write_chain(program, control, SEGMENT_PREFILL, generation.length, rows, after == 0);
        if (HAS_DRAFT && generation.drafter == DRAFTER_LAYER) expect(control.call, SEGMENT_DRAFT_PREFILL, rows, 0);
        else if (after > 0) expect(control.call, after > 1 ? SEGMENT_PREFILL : SEGMENT_TARGET, next, next == after);
    } else if (HAS_DRAFT && generation.drafting == DRAFTING_ROOT) {
        if (HAS_HEADS && generation.drafter == DRAFTER_HEADS) write_heads(control);
        else write_root(program, control);
    } else if (HAS_DRAFT && !HAS_HEADS && generation.drafting == DRAFTING_LEVEL) {
        write_level(control);
    } else {
        write_step(control);
    }
}
