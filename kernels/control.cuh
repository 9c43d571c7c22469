// The loop's state in device memory: which call runs, what is known of the sequence, how tokens are chosen. Block 0 publishes
// a call when the last one is done; every block waits for it. Mirrored in codegen/src/program/abi.rs.
#pragma once
#include "edges.cuh"
#include "program.cuh"

#define STOP_LIMIT 32u
#define SEGMENT_LIMIT 8u

enum Mode {
    MODE_CALL,      // the host wrote the call; it is run once and nothing is chosen
    MODE_GENERATE,  // what is known of the sequence is processed, then token after token is chosen
};

// Who guesses.
enum Drafter {
    DRAFTER_LOOKUP,  // what followed the same tokens before
    DRAFTER_MODEL,   // the draft segments, token after token
};

enum Finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_NOTHING_LEFT, FINISH_CALL };

struct Generation {
    u32 mode;          // Mode
    u32 finish;        // Finish
    u32 length;        // positions whose K and V are valid
    u32 known;         // tokens of the history: prompt and chosen ones
    u32 begin;         // of these what was known when the generation began: the ring of tokens counts from there
    u32 limit;         // tokens known at which the generation ends
    u32 stop_count;
    u32 draft_tokens;  // guessed ahead in a round, at most; 0: none
    u32 drafter;       // Drafter
    u32 draft_length;  // positions whose K and V the draft has
    u32 wanted;        // tokens to guess in this round
    u32 guesses;       // guessed so far; they stand in the history after what is known
    u32 stops[STOP_LIMIT];
    u32 runs[SEGMENT_LIMIT];  // of each segment since the program was loaded
    u32 topk;          // tokens that a draft lists for each output row, at most TOP_LIMIT; 0: its likeliest alone
    u32 unused[3];
};

struct Control {
    u32 round;         // calls published since the program was loaded; the release that makes `call` visible
    u32 launch_round;  // the call that the next launch begins with; changes only when a launch ends
    u32 pause_round;   // the call that this launch leaves to the next one
    u32 unused;
    Generation generation;
    Sampling sampling;
    Call call;
};

DEVICE bool is_target(u32 segment) { return segment == SEGMENT_PREFILL || segment == SEGMENT_TARGET; }

DEVICE Control& control_of(const Program& program) { return *(Control*)program.control; }
