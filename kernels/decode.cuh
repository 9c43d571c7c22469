// The persistent kernel. One block per SM; its warps run the phases of call after call. Codegen writes, before it includes
// this, what depends on the model:
//   run_stack     LINEAR of the stack that the phase names
//   run_attention ATTENTION of the variant that the phase names
//   run_embed     EMBED from the table that the phase names
#pragma once
#include "accept.cuh"
#include "choose.cuh"
#include "commit.cuh"
#include "control.cuh"
#include "copy_rows.cuh"
#include "edges.cuh"
#include "likeliest.cuh"
#include "linear.cuh"
#include "program.cuh"
#include "rejection.cuh"
#include "residual.cuh"
#include "ring.cuh"
#include "timers.cuh"
#include "typical.cuh"

#define PHASE_VECTORS (sizeof(Phase) / 16)
#define CALL_VECTORS (sizeof(Call) / 16)
static_assert(sizeof(Call) % 16 == 0, "Call is copied in vectors");

DEVICE Segment segment_of(const Program& program, u32 segment) {
    const uint4 words = load_constant_vector(program.segments + segment * sizeof(Segment));
    return {words.x, words.y, {0, 0}};
}

DEVICE Span span_of(const Program& program, u32 span) {
    const uint4 words = load_constant_vector(program.spans + ((u64)blockIdx.x * program.span_count + span) * sizeof(Span));
    return {(u64)words.y << 32 | words.x, words.z, words.w};
}

// The block's stages of a call with so many rows; without output rows those of the phases before them. None for no segment.
DEVICE Tape tape_of(const Program& program, u32 segment, u32 rows, u32 outputs) {
    if (segment == NONE) return {0, 0};
    const bool is_wide = group_width(row_tiles_of(rows)) < TILE_GROUP;
    const bool has_wide_outputs = group_width(row_tiles_of(larger(outputs, 1u))) < TILE_GROUP;
    const u32 kind = !is_wide ? TAPE_WHOLE : has_wide_outputs ? TAPE_WIDE : TAPE_WIDE_ROWS;
    const u64 range = program.tapes + ((u64)(segment * TAPES + kind) * gridDim.x + blockIdx.x) * sizeof(TapeRange);
    const uint4 words = load_constant_vector(range);
    return {program.stages + (u64)words.x * sizeof(Stage), outputs > 0 ? words.y : words.z};
}

// In stepped mode: the stages of the launch's phases.
DEVICE Tape part_of(const Program& program, const Tape& tape) {
    u32 begin = 0;
    const auto phase = [&](u32 item) { return load_constant(tape.stages + (u64)item * sizeof(Stage) + 12); };
#pragma unroll 1
    while (begin < tape.count && phase(begin) < program.phase_begin) begin++;
    u32 end = begin;
#pragma unroll 1
    while (end < tape.count && phase(end) < program.phase_end) end++;
    return {tape.stages + (u64)begin * sizeof(Stage), end - begin};
}

// Copies the block's residual to or from its home between launches of part of a call.
DEVICE void move_residual(const Program& program, bool save) {
    uint4* const residual = (uint4*)shared_region(RESIDUAL_AT);
    uint4* const home = (uint4*)(program.workspace + program.home + (u64)blockIdx.x * RESIDUAL_BYTES);
    // All writes of the residual before it is read, and the other way round.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < RESIDUAL_BYTES / 16; i += CONSUMER_THREADS) {
        if (save) home[i] = residual[i];
        else residual[i] = home[i];
    }
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}

// By all consumers: waits for call number shared.round, copies it and begins to fetch its weights. False: there is none.
DEVICE_CALL bool read_call(Shared& shared) {
    const Program& program = shared.program;
    if (threadIdx.x == 0) wait_counter(program, program.control, shared.round + 1, WAIT_ROUND);
    // Orders thread 0's acquire before the reads of the others, and all reads of the last call before it is overwritten.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const u64 control = program.control;
    if (threadIdx.x < CALL_VECTORS)
        ((uint4*)&shared.call)[threadIdx.x] = load_l2_vector(control + OFFSET_OF(Control, call) + threadIdx.x * 16);
    // The word of an earlier launch names an earlier call, or the first of this one.
    if (threadIdx.x == 0 && shared.calls > 0 && load_l2(control + OFFSET_OF(Control, pause_round)) == shared.round)
        shared.call.segment = NONE;
    // The call, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const Call& call = shared.call;
    Tape tape = tape_of(program, call.segment, call.rows, call.output_rows);
    Tape expected = {0, 0};
    if (call.segment != NONE) {
        expected = tape_of(program, call.expected, call.expected_rows, call.expected_outputs);
        const Segment segment = segment_of(program, call.segment);
        if (threadIdx.x == 0) shared.segment = segment;
        if (program.phase_end != NONE) tape = part_of(program, tape);
    }
    // Makes the segment known to all as well.
    begin_tape(program, shared, tape, expected);
    if (call.segment == NONE) return false;
    if (threadIdx.x == 0) {
        time_call(program, shared, shared.round);
        shared.round++;
        shared.calls++;
        shared.steps += is_target(call.segment);
    }
    if (program.phase_begin > 0) move_residual(program, false);
    return true;
}

// Which piece of a phase a thread copies; PHASE_VECTORS or more: none. Not those of warp 0, whose first thread waits for edges.
DEVICE u32 phase_piece() {
    // Anew each time: what is made of it would be kept in registers over all phases.
    u32 thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread - 32;
}

// A thread's piece of a phase of the call's segment.
DEVICE uint4 load_phase(const Program& program, const Shared& shared, u32 index) {
    const u32 piece = phase_piece();
    if (piece >= PHASE_VECTORS || index >= shared.segment.phases) return make_uint4(0, 0, 0, 0);
    return load_constant_vector(program.phases + (u64)(shared.segment.first_phase + index) * sizeof(Phase) + piece * 16);
}

// Puts it where its phase begins; the thread itself reads it there.
DEVICE void keep_phase(Shared& shared, uint4 piece) {
    const u32 own = phase_piece();
    if (own < PHASE_VECTORS) ((uint4*)&shared.upcoming)[own] = piece;
}

// Each kind of phase is a function of its own, so that none has registers taken by another; but for that of products, which are calls
// themselves and take all registers but those that a return would need. The next phase is on its way while the block waits for an
// edge, and rests in shared memory while products take the registers.
DEVICE void linear_phase(Shared& shared) {
    const Program& program = shared.program;
    const Phase& phase = shared.phase;
    const uint4 next = load_phase(program, shared, shared.index + 1);
    const bool is_idle = phase.flags & FLAG_OUTPUT_ROWS && shared.call.output_rows == 0;
    const Span span = span_of(program, phase.linear.span);
    keep_phase(shared, next);
    // Waits for the edge itself, after what does not depend on it.
    if (!is_idle) run_stack(program, shared, span);
    if (span.tiles & SPAN_ARRIVES || phase.flags & FLAG_ALL_ARRIVE) arrive_edge(program, phase);
}

DEVICE_CALL void attention_phase(Shared& shared) {
    const Program& program = shared.program;
    keep_phase(shared, load_phase(program, shared, shared.index + 1));
    // Waits for the edge itself, after what does not depend on it.
    run_attention(program, shared);
}

// Phases of the residual that a block keeps, which wait for nothing.
DEVICE_CALL void residual_phase(Shared& shared) {
    const Program& program = shared.program;
    const Phase& phase = shared.phase;
    const uint4 next = load_phase(program, shared, shared.index + 1);
    const bool is_idle = phase.flags & FLAG_OUTPUT_ROWS && shared.call.output_rows == 0;
    if (phase.kind == PHASE_NARROW && !is_idle) narrow_residual(shared);
    if (phase.kind == PHASE_EMBED) {
        if (HAS_DRAFT) move_accepted(program, shared);
        const bool owns = owns_residual(phase.embed.tiles);
        if (owns) run_embed(program, shared);
        if (owns || phase.flags & FLAG_ALL_ARRIVE) arrive_edge(program, phase);
    }
    keep_phase(shared, next);
}

// Not compiled where no phase is one.
constexpr bool HAS_COPIES = PHASES & (1u << PHASE_EXPORT | 1u << PHASE_IMPORT | 1u << PHASE_COPY);

// Phases that copy rows. If other blocks read what comes of it, every block arrives.
DEVICE_CALL void copy_phase(Shared& shared) {
    const Program& program = shared.program;
    const Phase& phase = shared.phase;
    const uint4 next = load_phase(program, shared, shared.index + 1);
    const bool is_idle = phase.flags & FLAG_OUTPUT_ROWS && shared.call.output_rows == 0;
    if (!is_idle) wait_edge(program, phase, shared.call.run);
    keep_phase(shared, next);
    if (phase.kind == PHASE_EXPORT && !is_idle) export_residual(program, shared);
    if (phase.kind == PHASE_IMPORT && !is_idle) import_residual(program, shared);
    if (phase.kind == PHASE_COPY && !is_idle) copy_rows(program, shared);
    arrive_edge(program, phase);
}

DEVICE_CALL void choose_phase(Shared& shared) {
    const Program& program = shared.program;
    const Phase& phase = shared.phase;
    const uint4 next = load_phase(program, shared, shared.index + 1);
    const u32 rows = shared.call.chooses != CHOOSES_NOTHING ? shared.call.output_rows : 0;
    // The rows of several heads follow each other.
    const u32 block = (blockIdx.x + gridDim.x - phase.choose.head * rows % gridDim.x) % gridDim.x;
    if (block < rows) wait_edge(program, phase, shared.call.run);
    keep_phase(shared, next);
    for (u32 row = block; row < rows; row += gridDim.x) {
        const Generation& generation = control_of(program).generation;
        const bool is_drawn = generation.acceptance == ACCEPT_REJECTION;
        const bool lists = HAS_DRAFT && phase.flags & FLAG_LISTS;
        if (lists && is_drawn) draw_guesses(program, shared, row);
        else if (lists) list_likeliest(program, shared, generation.topk, row);
        else if (GUESSES && shared.call.chooses == CHOOSES_TYPICAL) judge(program, shared, row);
        else if (HAS_DRAFT && shared.call.chooses == CHOOSES_VERIFIED) verify_guesses(program, shared, row);
        else choose(program, shared, control_of(program).sampling, row);
        // The shared memory of one row's choice, before the next uses it.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    }
    arrive_edge(program, phase);
}

// Ends the call: block 0 decides what comes next. A call in parts is the host's, and none follows it: what other blocks read as
// they start must not change.
DEVICE_CALL void end_phase(Shared& shared) {
    const Program& program = shared.program;
    if (blockIdx.x != 0 || program.phase_end != NONE) return;
    // Memory of the host answers while the other blocks arrive; the barriers of the wait make the word known to all.
    if (threadIdx.x == 32) shared.words[2] = load_acquire_system(HOST_WORD(program, cancel));
    wait_edge(program, shared.phase, shared.call.run);
    finish_call(program, shared);
}

// All phases of a call that this launch runs. What a loop would keep in registers over calls of functions rests in shared
// memory.
DEVICE void run_call(Shared& shared) {
    const Program& program = shared.program;
    if (threadIdx.x == 0) shared.index = program.phase_begin;
    keep_phase(shared, load_phase(program, shared, program.phase_begin));
    for (;;) {
        const u32 piece = phase_piece();
        if (piece < PHASE_VECTORS) ((uint4*)&shared.phase)[piece] = ((uint4*)&shared.upcoming)[piece];
        // The phase and its index, to all.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        if (shared.index >= smaller(shared.segment.phases, program.phase_end)) return;
        time_begin(program, shared);
        switch (shared.phase.kind) {
            case PHASE_LINEAR: linear_phase(shared); break;
            case PHASE_ATTENTION: attention_phase(shared); break;
            case PHASE_CHOOSE: choose_phase(shared); break;
            case PHASE_NEXT: end_phase(shared); break;
            case PHASE_EXPORT:
            case PHASE_IMPORT:
            case PHASE_COPY:
                if constexpr (HAS_COPIES) copy_phase(shared);
                break;
            default: residual_phase(shared);
        }
        time_end(program, shared);
        // All reads of the phase, before the next one overwrites it.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        if (threadIdx.x == 0) shared.index++;
    }
}

// Grid: one block per SM, launched cooperatively; THREADS threads; SHARED_AT + sizeof(Shared) bytes of dynamic shared memory.
KERNEL __launch_bounds__(THREADS, 1) decode(const __grid_constant__ Program parameter) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Program& program = shared.program;
    if (threadIdx.x < sizeof(Program) / 4) ((u32*)&shared.program)[threadIdx.x] = ((const u32*)&parameter)[threadIdx.x];
    // The program, to all.
    __syncthreads();
    if (threadIdx.x == 0) {
        ring_init(shared);
        shared.round = load_l2(program.control + OFFSET_OF(Control, launch_round));
        shared.calls = shared.steps = 0;
        shared.index = NONE;
        // What a launch waits for its turn is no call's time.
        if (blockIdx.x == 0) control_of(program).times.clock = nanoseconds();
    }
    // All of it goes to its home at the end, also rows that the call does not have.
    if (program.phase_end != NONE)
#pragma unroll 1
        for (u32 i = threadIdx.x; i < RESIDUAL_BYTES / 16; i += THREADS)
            ((uint4*)shared_region(RESIDUAL_AT))[i] = make_uint4(0, 0, 0, 0);
    // The initialised barriers and counters, to all.
    __syncthreads();
    while (read_call(shared)) {
        run_call(shared);
        if (program.phase_end != NONE) {
            move_residual(program, true);
            return;
        }
    }
}
