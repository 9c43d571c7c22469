// Which call comes next. A round of a generation is a step of the target, after calls of the draft if there is one that is a model:
//
//   DRAFT_PREFILL ...  what is known of the sequence and the draft has not seen, while it is much
//   EXTEND             the rest of it; the first guess comes of its last row
//   DRAFT ...          each guess but the last, for the next one
//   TARGET             the last known token and all guesses
//
// Before the first round PREFILL works through the prompt. Rows are a chain after what the call's own cache holds.
#pragma once
#include "control.cuh"

// The fewest row tiles that products are compiled for and that hold the rows.
DEVICE u32 row_tiles_of(u32 rows) {
    for (u32 tiles = 1; tiles < 8; tiles *= 2)
        if (ROW_TILE_SET & tiles && rows <= 8 * tiles) return tiles;
    return 8;
}

// Calls of the target so far.
DEVICE u32 steps_of(const Generation& generation) {
    return generation.runs[SEGMENT_PREFILL] + generation.runs[SEGMENT_TARGET];
}

// Tokens from position `from` on; the last `outputs` rows have outputs. A draft is fed token 0 for those that it does not know:
// they come from the target's padding, never from text.
DEVICE void write_rows(const Program& program, Control& control, u32 segment, u32 from, u32 rows, u32 outputs) {
    Call& call = control.call;
    const u32* const history = (const u32*)program.history;
    call.segment = segment;
    call.run = ++control.generation.runs[segment];
    call.rows = rows;
    call.row_tiles = row_tiles_of(rows);
    call.output_rows = outputs;
    call.output_tiles = row_tiles_of(larger(outputs, 1u));
    call.length = from;
    call.chooses = 1;
    call.expected = NONE;
    call.moved = 0;
    const u32 vocab_size = is_target(segment) ? VOCAB_SIZE : DRAFT_VOCAB_SIZE;
    for (u32 row = 0; row < rows; row++) {
        const u32 token = history[from + row];
        call.tokens[row] = token < vocab_size ? token : 0;
        call.positions[row] = from + row;
        call.parents[row] = row == 0 ? NONE : row - 1;
        call.sources[row] = (u8)row;
    }
    for (u32 i = 0; i < outputs; i++) call.outputs[i] = rows - outputs + i;
}

DEVICE void expect(Call& call, u32 segment, u32 rows, u32 outputs) {
    call.expected = segment;
    call.expected_rows = rows;
    call.expected_outputs = outputs;
}

// A step over the last known token and the guesses after it.
DEVICE void write_step(const Program& program, Control& control) {
    const Generation& generation = control.generation;
    const u32 rows = 1 + generation.guesses;
    write_rows(program, control, SEGMENT_TARGET, generation.length, rows, rows);
    // If it does not end, a round like this one follows.
    if (generation.drafter == DRAFTER_MODEL && generation.draft_tokens > 0) expect(control.call, SEGMENT_EXTEND, 1, 1);
    else expect(control.call, SEGMENT_TARGET, rows, rows);
}

DEVICE void write_guess(const Program& program, Control& control) {
    const Generation& generation = control.generation;
    const u32 behind = generation.known - generation.draft_length;
    const bool is_last = generation.guesses + 1 >= generation.wanted;
    if (generation.guesses > 0) {
        write_rows(program, control, SEGMENT_DRAFT, generation.known + generation.guesses - 1, 1, 1);
    } else if (behind <= VERIFY_ROWS) {
        write_rows(program, control, SEGMENT_EXTEND, generation.draft_length, behind, 1);
    } else {
        const u32 rows = smaller(behind, PREFILL_ROWS);
        write_rows(program, control, SEGMENT_DRAFT_PREFILL, generation.draft_length, rows, rows == behind);
        if (rows < behind) return;
    }
    if (is_last) expect(control.call, SEGMENT_TARGET, 1 + generation.wanted, 1 + generation.wanted);
    else expect(control.call, SEGMENT_DRAFT, 1, 1);
}

// The call after what the generation says; none if it has ended.
DEVICE void write_call(const Program& program, Control& control) {
    const Generation& generation = control.generation;
    const u32 left = generation.known - generation.length;
    if (generation.finish != FINISH_NONE) {
        control.call.segment = NONE;
    } else if (left > 1) {
        const u32 rows = smaller(left, PREFILL_ROWS), after = left - rows, next = smaller(after, PREFILL_ROWS);
        write_rows(program, control, SEGMENT_PREFILL, generation.length, rows, after == 0);
        if (after > 0) expect(control.call, after > 1 ? SEGMENT_PREFILL : SEGMENT_TARGET, next, next == after);
    } else if (generation.drafter == DRAFTER_MODEL && generation.guesses < generation.wanted) {
        write_guess(program, control);
    } else {
        write_step(program, control);
    }
}
