// Rows of a draft's logits, which a test gives: kept tile by tile as the head's phase does, then listed.
#include "epilogue.cuh"
#include "likeliest.cuh"

struct Case {
    u64 workspace;
    u64 logits;  // f32 [row][vocab_size]
    u64 target_ids;
    float logit_scale;
    u32 rows;
    u32 listed;  // as of Call
    u32 wanted;
    ChoosePhase phase;
};

DEVICE Program begin(Shared& shared, const Case& own) {
    Program program = {};
    program.workspace = own.workspace;
    program.target_ids = own.target_ids;
    program.logit_scale = own.logit_scale;
    if (threadIdx.x == 0) {
        shared.call.output_rows = own.rows;
        shared.call.listed = own.listed;
    }
    return program;
}

// Tiles go to the blocks by turns, each with each row to half a warp.
KERNEL __launch_bounds__(THREADS) keep(const Case* cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Case own = *cases;
    const Program program = begin(shared, own);
    const u32 vocab_size = own.phase.vocab_size;
    if (threadIdx.x == 0) {
        LinearPhase& phase = shared.phase.linear;
        phase.output_columns = vocab_size;
        phase.best = own.phase.best;
        phase.listed = own.phase.listed;
    }
    begin_best(shared);
    consumers_meet();
    const u32 tiles = divide_up(vocab_size, TILE_ROWS), first = blockIdx.x;
    const u32 of_block = first < tiles ? divide_up(tiles - first, gridDim.x) : 0;
    const u32 r = threadIdx.x % TILE_ROWS, half = threadIdx.x % 32 / TILE_ROWS;
    // Lanes are not in the order of their logits, as after an exchange.
    const u32 rest = threadIdx.x / 32 % 2 ? TILE_ROWS - 1 - r : r;
    for (u32 pair = threadIdx.x / 32; pair < divide_up(of_block * own.rows, 2); pair += CONSUMER_WARPS) {
        const u32 item = pair * 2 + half, row = item % own.rows, tile = first + item / own.rows * gridDim.x;
        const u32 column = tile * TILE_ROWS + rest;
        const bool live = item < of_block * own.rows && column < vocab_size;
        const float logit = live ? load_l2_float(own.logits + 4ull * (row * vocab_size + column)) : 0.0f;
        if (keeps_likeliest(shared)) {
            keep_tile(program, shared, column, row, logit, live);
        } else {
            keep_best(shared, r, column, row, logit, live);
            if (live) store_float(own.workspace + own.phase.logits + 4ull * (row * vocab_size + column), logit);
        }
    }
    consumers_meet();
    store_best(program, shared);
}

KERNEL __launch_bounds__(THREADS) list(const Case* cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Case own = *cases;
    const Program program = begin(shared, own);
    if (threadIdx.x == 0) shared.phase.choose = own.phase;
    consumers_meet();
    for (u32 row = blockIdx.x; row < own.rows; row += gridDim.x) {
        list_likeliest(program, shared, own.wanted, row);
        // A row's keys, before the next one's.
        consumers_meet();
    }
}
