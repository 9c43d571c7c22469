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
    DRAFTER_LOOKUP,  // what followed the same tokens before: a chain
    DRAFTER_MODEL,   // a small model: it is fed tokens, level after level of a tree
    DRAFTER_LAYER,   // a layer that is fed hidden states as well: those of a position with the token after it
    DRAFTER_HEADS,   // heads that each guess a level, out of the hidden state that the last token came of
};

// How far the guesses of a round are.
enum Drafting {
    DRAFTING_DONE,   // the tree is what will be verified
    DRAFTING_ROOT,   // the draft has to see what is known
    DRAFTING_LEVEL,  // the draft has to see the last level of the tree
};

// Which guesses count as right.
enum Acceptance {
    ACCEPT_EXACT,      // those that plain decoding chooses
    ACCEPT_TYPICAL,    // those that the target finds likely enough: see typical.cuh
    ACCEPT_REJECTION,  // guesses are drawn, and rejection sampling keeps the target's distribution: see rejection.cuh
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
    u32 drafter;       // Drafter
    u32 draft_length;  // positions whose K and V the draft has
    u32 drafting;      // Drafting
    u32 levels;        // of a round's tree below the root, at most; 0: nothing is guessed
    u32 topk;          // candidates below a node, and nodes of a level that the draft goes on from, at most
    u32 nodes;         // of a round's tree, the root among them, at most
    u32 moved;         // see Call
    u32 last_row;      // of the target's last call: the row that the last token came of
    u32 traces;        // 1: the host sees every round's tree
    u32 rounds;        // trees verified
    u32 acceptance;    // Acceptance
    float posterior_threshold, posterior_alpha;  // of typical acceptance
    u32 looks_up;      // 1: beside another drafter what followed before is a guess too, where that promises more
    u32 looked_up;     // 1: the round's tree is such a guess
    u32 unused[2];
    u32 stops[STOP_LIMIT];
    u32 runs[SEGMENT_LIMIT];  // of each segment since the program was loaded
    u8 path[ROW_LIMIT];       // rows of the target's last call that stayed: see Call
};

// The last known token and guesses at what follows it, as they are verified: parents come before their children.
struct Tree {
    u32 nodes;
    u32 levels;                // below the root
    u32 tokens[ROW_LIMIT];
    u32 parents[ROW_LIMIT];    // NONE for the root
    float scores[ROW_LIMIT];   // natural logarithm of the probability of the path, as the draft sees it
};

// Something that a draft has named. Of its key the high word orders as the score does, the low word is ~record: they are numbered
// as they are named.
struct Candidate {
    u64 key;
    u32 token;
    u32 parent;  // record; NONE: the root
};

// A tree that a draft grows: see grow.cuh.
struct Growth {
    u32 levels;   // that have been named
    u32 records;  // numbers that have been given
    u32 kept_count;
    u32 width;    // nodes of the frontier
    u32 rows;     // rows of the frontier's ancestors in the draft's cache
    u32 last_row;  // the first row of the draft's last call
    Candidate kept[ROW_LIMIT];       // the best of all, best first
    Candidate frontier[TOP_LIMIT];   // the best of the last level, best first: what the draft sees next
    u32 parents[ROW_LIMIT];          // of a row in the draft's cache and then of the frontier's: row, or NONE
};

// A tree of fixed shape, which heads fill: see static_tree.cuh. Nodes are in the order of their levels, the root is node 0.
struct StaticTree {
    u32 nodes;   // the root among them; 0: trees grow
    u32 levels;  // below the root
    u32 unused[2];
    u8 parents[ROW_LIMIT];
    u8 ranks[ROW_LIMIT];   // below TOP_LIMIT: which candidate of the head of its level
    u8 depths[ROW_LIMIT];
};

// Of a guess that a step has judged: natural logarithms.
struct Judged {
    float score;    // of its probability at the temperature; -inf: it is not accepted
    float logprob;  // of that under the model, if log-probabilities are wanted
};

// Widths of steps whose cost is known: 1, 2, 4... 64 rows.
#define COST_STEPS 7u
#define CALIBRATION_BUCKETS 25u

// What decides about depth and width, and what it has learnt: see planner.cuh.
struct Planner {
    u32 automatic;            // 0: trees are of one size in every round
    float steps[COST_STEPS];  // seconds of a step of the target, by its rows; they do not fall
    float start, level;       // seconds of the draft before the first level, and for each one more
    float stretch;            // by how much steps take longer, with the context, than was measured
    float child_rate;         // how often a node with children had one of them accepted
    float gain;               // mean of the speed-up over plain steps, in so many rounds
    u32 rounds;
    u32 left, length;         // rounds without guesses: that are left, and of the next pause
    u32 behind;               // 1: the draft has text to catch up with first: its next round is no measure of what drafting costs
    float drafted;            // seconds that the draft has taken in this round
    u32 trials;               // rounds that it was asked in; of them the mean
    float tokens, seconds;    //   of tokens and of seconds, as the costs say
    u32 passed;               // tokens of rounds since its last that were drafted by another
    float offered[CALIBRATION_BUCKETS], accepted[CALIBRATION_BUCKETS];  // guesses, by what the draft thought of them
};

// What the calls of a generation's rounds took, in nanoseconds; those of prompts are not among them. By thread 0 of block 0.
struct Times {
    u64 clock;                 // when the last call was decided on, or the launch began
    u64 arrived;               // when every block was done with the call that is decided on
    u64 draft, verify, accept;
};

struct Control {
    u32 round;         // calls published since the program was loaded; the release that makes `call` visible
    u32 launch_round;  // the call that the next launch begins with; changes only when a launch ends
    u32 pause_round;   // the call that this launch leaves to the next one
    u32 unused;
    Generation generation;
    Sampling sampling;
    Call call;
    Tree tree;
    Growth growth;
    Planner planner;
    Planner lookup;  // of lookup beside another drafter
    Times times;
    u64 draws;  // f32 [row of draws][VOCAB_SIZE], for rejection: what guesses were drawn from; rows: see draws_of
    StaticTree static_tree;
    Judged judged[ROW_LIMIT];  // by the row of the target's last call, if it judged guesses
};

static_assert(OFFSET_OF(Control, call) % 16 == 0, "Call is copied in vectors");
static_assert(OFFSET_OF(Control, times) % 8 == 0, "Times has no gap before it");
static_assert(OFFSET_OF(Control, judged) % 8 == 0, "Judged is read in one piece");

DEVICE bool is_target(u32 segment) { return segment == SEGMENT_PREFILL || segment == SEGMENT_TARGET; }

DEVICE Control& control_of(const Program& program) { return *(Control*)program.control; }
