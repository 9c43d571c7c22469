// What host and kernel agree on: the program that a launch runs, its phases, and the call that they work on. Mirrored in
// codegen/src/program/abi.rs, which checks every size and offset.
#pragma once
#include "prelude.cuh"
// Written by codegen for one program:
//   ROW_CAPACITY                       rows of the widest segment: 8, 16, 32 or 64
//   ROW_TILE_SET                       row tiles of tokens that products are compiled for, of 1, 2, 4 and 8, added up
//   STAGES, STAGE_BYTES                the weight ring
//   TILE_GROUP                         row tiles of a group in the arena: 1, 2 or 4
//   GROUP_1, GROUP_2, GROUP_4, GROUP_8 row tiles that a warp accumulates at 1, 2, 4 or 8 row tiles of tokens: 1, 2 or 4
//   SLOTS_1, SLOTS_2, SLOTS_4, SLOTS_8 slices of activations that a warp holds then: 1, 2, 4 or 8
//   HAS_SHORT_CHUNKS                   1: a product's columns are no multiple of CHUNK, so that its last chunk is a short one
//   SEGMENT_PREFILL, SEGMENT_TARGET    indices of these segments
//   SEGMENT_DRAFT_PREFILL, SEGMENT_EXTEND, SEGMENT_DRAFT  those of a draft that is a model; or NONE
//   LOOKS_UP                           1: rounds may be guessed by lookup, see ngram.cuh
//   PHASES                             kinds of phases that there are, bit 1 << PhaseKind each
//   PREFILL_ROWS, VERIFY_ROWS          rows of one call of them, at most
//   VOCAB_SIZE, DRAFT_VOCAB_SIZE       tokens of the target, and those that a draft can be fed
//   SCRATCH_BYTES, PARTIAL_BYTES, RESIDUAL_BYTES  regions of shared memory, multiples of 128
#include "sizes.cuh"

#define CONSUMER_WARPS 8u
#define CONSUMER_THREADS 256u
// All eight warps compute, and each fetches what it is the last to need no more; a ninth for that would cost the others a third
// of their registers.
#define THREADS CONSUMER_THREADS
#define TILE_ROWS 16u
#define SLICE 64u
#define CHUNK 512u
#define KV_PAGE 128u
#define ROW_LIMIT 64u
#define MAX_STAGES 32u
#define MAX_PARTS 3u
// Tiles of a block whose weights of a view are fetched ahead.
#define VIEW_TILES 2u
// In place of an offset or an index: there is none.
#define NONE 0xffffffffu

// Shared memory of a block: the ring, then these, then Shared.
#define SCRATCH_AT (STAGES * STAGE_BYTES)
#define PARTIALS_AT (SCRATCH_AT + SCRATCH_BYTES)
#define RESIDUAL_AT (PARTIALS_AT + PARTIAL_BYTES)
#define SHARED_AT (RESIDUAL_AT + RESIDUAL_BYTES)

// The block's shared memory from byte `at` on.
DEVICE u8* shared_region(u32 at) {
    extern __shared__ __align__(128) u8 shared_memory[];
    return shared_memory + at;
}

enum PhaseKind {
    PHASE_EMBED,
    PHASE_LINEAR,
    PHASE_ATTENTION,
    PHASE_NARROW,
    PHASE_EXPORT,
    PHASE_CHOOSE,
    PHASE_NEXT,
    PHASE_IMPORT,
    PHASE_COPY,
};

enum PhaseFlags {
    FLAG_OUTPUT_ROWS = 1,  // works on the output rows; does nothing but arrive if the call has none
    FLAG_ALL_ARRIVE = 2,   // every block arrives, also one without work
    FLAG_NARROWED = 4,     // the residual's rows are the output rows already
    FLAG_LISTS = 8,        // the likeliest tokens are listed, none is chosen
    FLAG_SOURCES = 16,     // reads what another call left: of row r its row Call::sources[r]
};

// Which rows a buffer is read by.
enum RowSet { ROWS_ALL, ROWS_OUTPUT, ROWS_GATHERED };  // gathered: written for all rows, read for the output rows

enum EpilogueKind {
    EPILOGUE_ROWS,      // stored as they are: logits, or rows for a copy
    EPILOGUE_RESIDUAL,  // added to the residual
    EPILOGUE_GATED,
    EPILOGUE_QKV,
    EPILOGUE_BEGIN,     // become the residual
};
enum ActivationKind { ACTIVATION_NONE, ACTIVATION_SILU, ACTIVATION_GELU_TANH };

// Offsets are bytes: of `workspace` for buffers, of `constants` for vectors and tables.
//
// Buffers of activations lie in B order, bf16 [k32 block][row tile][lane 32][16 bytes], row tiles being those of the call (or
// of its output rows). Element (row n, column k): lane 4 (n % 8) + k % 32 / 8 of row tile n / 8, byte 2 (k % 8). Columns from
// K to whole slices are 0.

// One matrix of a stack.
struct Part {
    u32 first_tile;  // of the stack
    u32 n;           // rows of the matrix
    int exponent;    // products are multiplied by 2^exponent
    u32 bias;        // constants: f32 [n], or NONE
    u32 column;      // first column of the output, or for gate and up 0
};

// y = x W^T of one stack of tiles, and what becomes of it.
struct LinearPhase {
    u32 stack;       // which instantiation: format of the weights
    u32 span;        // index of the block's Span
    u32 k;           // columns, whole slices
    u32 input;       // workspace: B order
    u32 input_rows;  // RowSet
    u32 stats;       // workspace: f32 [row][stat_tiles], sums of squares of the norm's input; NONE: no norm
    u32 stat_tiles;
    float eps, inverse_n;  // y is multiplied by 1 / sqrt(sum * inverse_n + eps)
    u32 epilogue;          // EpilogueKind
    u32 activation;        // ActivationKind
    u32 output;            // workspace: rows and qkv f32 [row][output_columns], gated B order
    u32 output_columns;
    u32 view;         // residual: workspace, what the next op reads, bf16(residual * view_weight) in B order; NONE: nothing
    u32 view_weight;  // constants: f32 [hidden_size], or NONE for 1
    u32 view_stats;   // workspace: f32 [row][stat_tiles]; NONE: not wanted
    u32 view_tiles;   // tiles of the residual
    u32 best;         // rows: workspace, u64 [row][block]: the block's largest logit and its token (see choose.cuh); or NONE
    u32 part_count;
    Part parts[MAX_PARTS];
    u32 listed;       // a draft's logits: workspace, what is left of them where Call::listed says so, see likeliest.cuh; or NONE
};

// residual = row of the table, and its view.
struct EmbedPhase {
    u32 stack;       // instantiation of a table in tiles; NONE: rows of `table_stride` bytes from `table`
    u32 span;        // first Span of the table in tiles
    u32 is_f16;      // rows of f16 instead of bf16
    u32 columns;     // hidden_size
    u32 tiles;       // of the residual
    u32 table_tiles; // of the table
    int exponent;
    u32 table_stride;
    u64 table;       // arena: first row
    u32 view, view_weight, view_stats;
};

// Softmax of scaled scores over the positions that a row sees, times V; K and V of the rows are appended first.
struct AttentionPhase {
    u32 variant;   // which instantiation: head_dim and type of K and V
    u32 kv;        // 0: pool of the target, 1: of the draft
    u32 layer;
    u32 kv_heads;
    u32 group;     // query heads of a KV head
    u32 head_dim;
    float scale;
    u32 window;    // positions that a row sees; 0: all
    u32 qkv;       // workspace: f32 [row][qkv_columns], columns q heads, k heads, v heads
    u32 qkv_columns;
    u32 q_norm, k_norm;  // constants: f32 [head_dim], or NONE
    float q_eps, k_eps;
    u32 rope;        // constants: f32 [position][rope_pairs][2], cosine and sine
    u32 rope_pairs;  // pair (i, i + rope_pairs) of a head is rotated; elements from 2 rope_pairs on are not
    u32 output;      // workspace: B order, [row][kv_heads * group * head_dim]
    u32 output_slices;  // of 64 columns, padding included
    u32 partials;    // workspace: see attention.cuh
    u32 counters;    // workspace: u32, 0 between phases
};

// Keeps of the residual the output rows only.
struct NarrowPhase {
    u32 tiles;
};

// Copies rows: export from the residual to a buffer, import from a buffer to the residual, copy from buffer to buffer. With
// FLAG_OUTPUT_ROWS as many as there are output rows, and unless FLAG_NARROWED says that only those are in the source, row j of
// the copy is row outputs[j] of it. Columns are multiples of 4.
struct CopyPhase {
    u32 from;         // workspace: f32 [row][from_columns]; export: not used
    u32 from_columns, from_column;
    u32 to;           // workspace: f32 [row][to_columns], or B order; import: not used
    u32 to_columns, to_column;
    u32 in_order;     // 1: `to` is in B order; the copy that has the last column adds zeros up to whole slices
    u32 columns;      // copied ones
    u32 tiles;        // export, import: of the residual
    u32 norm;         // constants: f32 [columns], weight of a norm over the columns; NONE: no norm
    float eps, inverse_n;
    u32 stats;        // export under a norm: workspace, f32 [row][tiles], as of a linear phase
    u32 view, view_weight, view_stats;  // import: as of a linear phase
};

// Chooses a token for each output row.
struct ChoosePhase {
    u32 logits;      // workspace: f32 [output row][vocab_size]
    u32 vocab_size;
    u32 best;        // workspace: as of the head, or NONE
    u32 choices;     // workspace: Choice [row]
    u32 top;         // workspace: TopLogprob [row][TOP_LIMIT]
    u32 candidates;  // workspace: u64 [row][vocab_size]; of a draft [block][vocab_size]
    u32 adjusted;    // workspace: f32 [row][vocab_size rounded up to 4], at a multiple of 16
    u32 head;        // of several that choose in one call each for itself: spreads their rows over the blocks
    u32 listed;      // workspace: as of the head, of a draft
    u32 unused;
};

struct Phase {
    u32 kind;         // PhaseKind
    u32 flags;        // PhaseFlags
    u32 edge_in;      // waited for before buffers are read; or NONE
    u32 arrivals_in;  // at edge_in in one run of the segment
    u32 edge_out;     // arrived at when all is written; or NONE
    u32 op;           // op of the segment, for reports
    union {
        LinearPhase linear;
        EmbedPhase embed;
        AttentionPhase attention;
        NarrowPhase narrow;
        CopyPhase copy;
        ChoosePhase choose;
        u32 words[42];
    };
};
static_assert(sizeof(Phase) == 192, "Phase");

// A block's tiles of one stack.
struct Span {
    u64 offset;      // arena
    u32 first_tile;
    u32 tiles;       // bit 31: the block arrives at the op's edge
};
#define SPAN_ARRIVES 0x80000000u

struct Segment {
    u32 first_phase, phases;
    u32 unused[2];
};

// A piece of the arena that is copied at once: see ring.cuh.
struct Stage {
    u64 offset;  // arena
    u32 bytes;   // a multiple of 16, at most STAGE_BYTES
    u32 phase;   // of the segment: whose weights they are
};

// A block's stages of a segment. Those of phases that work on the output rows come last: a call without such rows ends before.
struct TapeRange {
    u32 first;             // of Program::stages
    u32 count;
    u32 before_outputs;    // stages of the other phases
    u32 unused;
};

// Tapes of a segment: tile groups are taken whole, or in parts by the phases that work on all rows, or by all phases.
enum TapeKind { TAPE_WHOLE, TAPE_WIDE_ROWS, TAPE_WIDE, TAPES };

// What a call does with its logits.
enum Chooses {
    CHOOSES_NOTHING,   // they are all that is wanted
    CHOOSES_TOKENS,    // a token is chosen for each output row; of a draft the likeliest are listed
    CHOOSES_TYPICAL,   // guesses are judged: see typical.cuh
    CHOOSES_VERIFIED,  // guesses that were drawn are accepted or rejected: see rejection.cuh
};

// What one run of a segment works on.
struct Call {
    u32 segment;
    u32 run;        // runs of this segment so far, this one included: edges count on through them
    u32 rows;       // 1 to ROW_CAPACITY
    u32 row_tiles;  // of 8 rows: 1, 2, 4 or 8
    u32 output_rows, output_tiles;
    u32 length;     // positions of the sequence before the call
    u32 chooses;    // Chooses
    // The call that is expected to come next: its weights are fetched ahead.
    u32 expected;   // segment, or NONE
    u32 expected_rows, expected_outputs;
    u32 moved;      // rows of the target's last call that came true and have not moved yet: see commit.cuh
    u32 base;       // rows of the same tree that came in earlier calls: they lie in the cache from position `length` on
    u32 listed;     // of a draft: so many of the likeliest tokens of each output row are kept instead of its logits; 0: logits are
    u32 unused[2];
    u32 tokens[ROW_LIMIT];
    u32 positions[ROW_LIMIT];  // of the tree's rows: those of the call are from `base` on
    u32 parents[ROW_LIMIT];    // of the tree's rows: row of the tree, or NONE: follows position length - 1
    u32 outputs[ROW_LIMIT];    // row of output row j, ascending
    u8 path[ROW_LIMIT];      // row `path[j]` of the target's last call becomes position length - moved + j
    u8 sources[ROW_LIMIT];   // row of the segment's input that a row takes
};

// How tokens are chosen, as stheno's SamplingParams.
struct Sampling {
    u64 seed;
    float temperature, top_p, min_p;
    float repetition_penalty, presence_penalty, frequency_penalty;
    u32 top_k;
    u32 penalty_window;  // tokens; NONE: all
    u32 greedy;          // no chance: temperature 0 or top_k 1
    u32 penalises;       // counts are kept and penalties applied
    u32 bias_count;      // Bias entries at Program::bias
    u32 masked;          // Program::mask holds a mask
    u32 top_logprobs;    // tokens listed beside the chosen one; NONE: no log-probabilities at all
    u32 prompt_length;   // tokens of history that are prompt
};

struct Bias {
    u32 token;
    float add;
};

// How often a token is in the window of the penalties.
struct Count {
    u32 all, output;
};

#define TOP_LIMIT 32u
struct TopLogprob {
    u32 token;
    float logprob;
};

enum ChoiceStatus { CHOICE_MADE, CHOICE_NONE_LEFT };
struct Choice {
    u32 token;
    u32 kept;  // tokens that the filters left
    float logprob;
    u32 status;
};

// K and V of a sequence in pages of 128 positions, each [layer][K, V][kv head][position 128][head_dim]. Row i of a
// call lies at position call.length + i, of a tree too, until it is known which rows stay (see commit.cuh).
struct KvPool {
    u64 layer_bytes;  // 2 * kv_heads * 128 * head_dim * 2
    u64 table;        // u64 [page of the sequence]: its address
    u32 planes;       // [layer][K, V][kv head]
    u32 row_bytes;    // head_dim * 2
};

// The kernel's one parameter. Addresses of device memory; `host` is mapped memory of the host.
struct Program {
    u64 arena;
    u64 constants;
    u64 workspace;
    u64 phases;    // Phase
    u64 segments;  // Segment
    u64 stages;    // Stage, see ring.cuh
    u64 tapes;     // TapeRange [segment][TAPES][block]
    u64 spans;     // Span [block][spans]
    u64 edges;     // u32 every 128 bytes
    u64 control;   // Control, see control.cuh
    u64 history;   // u32 [context]: tokens of the sequence
    u64 followers;  // u32 [vocab_size], of lookup while it guesses: how often a token followed; nothing where the program has no lookup
    u64 counts;    // Count [vocab_size]
    u64 bias;      // Bias
    u64 mask;      // u32 [vocab_size / 32 rounded up], bit token % 32: allowed
    u64 host;      // HostRing, see token_ring.cuh
    u64 timers;    // see timers.cuh; 0: nothing is timed
    KvPool kv[2];
    u32 span_count;   // of a block
    u32 patience;     // polls before a wait is given up; 0: never
    u32 phase_begin;  // phases of the call that this launch runs, begin..end; 0..NONE: whole calls, until there were `rounds`
    u32 phase_end;
    u32 rounds;       // calls of the target that a launch runs at most
    u32 home;         // workspace: [block][RESIDUAL_BYTES], where the residual rests between launches of part of a call
    u64 target_ids;   // u32 [ids of the draft]: the target's for each; 0: they are the same
    float logit_scale;  // of the draft: its probabilities are those of logits times this
    u32 unused;
};

// Of a block, after the regions. `program`, `call` and `phase` are copies.
struct Shared {
    u64 full[MAX_STAGES];
    Stage records[MAX_STAGES];    // of the copy that takes the stage's place
    u64 empty[MAX_STAGES];        // mbarriers: the warps have read the stage
    u64 summed;                   // mbarrier: the warps' sums of a pass are there, see linear.cuh
    u64 arena;                    // of Program
    Call call;
    Phase phase, upcoming;        // the one that runs, the one after it
    u32 index;                    // of the phase in its segment; NONE between calls
    Segment segment;              // of the call
    u64 best[ROW_LIMIT];
    float row_scales[ROW_LIMIT];  // of the norm
    float view_weights[VIEW_TILES * TILE_ROWS];  // of the block's first tiles, see view.cuh
    u32 words[16];                // what one thread tells the others
    u32 readers[CONSUMER_WARPS][4];  // where the warps stand in the ring between phases
    u32 round;                    // of the next call
    u32 calls;                    // of this launch, the call's included
    u32 steps;                    // those of them that are the target's
    u64 tape, next_tape;          // addresses of the call's stages, and of those of the call that is expected after it
    u32 tape_stages, next_stages;
    u32 limit;                    // of stages that may be fetched: those of both
    u32 ahead;                    // stages of the next call that are in the ring when this one ends
    u32 early;                    // stages of the call that were in the ring when it began: their records may not know their
                                  // successors
    u64 stamps, ready, stalled;   // see timers.cuh
    Program program;              // functions that are called would reach the kernel's parameter by loads that miss L1 after each edge
};
static_assert(sizeof(Shared) <= 4096, "what codegen leaves for it");

// Rows that the block's linear phase works on.
DEVICE u32 phase_rows(const Shared& shared) {
    return shared.phase.linear.input_rows == ROWS_ALL ? shared.call.rows : shared.call.output_rows;
}
