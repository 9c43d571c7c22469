// What the eight warps have summed up of some tiles, each over its slices, becomes y: through shared memory, added in ascending
// order of the warps, and through the epilogue.
#pragma once
#include "epilogue.cuh"
#include "formats.cuh"
#include "ring.cuh"
#include "slices.cuh"

// Sums of a slice go to the partials region as [warp][tile][token pair][32 words], the words of a pair being token parity and
// row. Groups of 8 words are exchanged so that neither the lanes of a fragment nor those of a sum meet in a bank.
DEVICE u32 partial_word(u32 row, u32 token) {
    const u32 pair = token / 2;
    return pair * 32 + ((token % 2 * 2 + row / 8) ^ pair % 4) * 8 + row % 8;
}

// How much of a pass the partials region holds at a time.
template <u32 ROW_TILES, u32 TILES_OF_PASS> struct Exchange {
    static constexpr u32 ROOM = PARTIAL_BYTES / (CONSUMER_WARPS * TILE_ROWS * 8 * 4);
    static_assert(ROOM >= 1, "partials do not hold a row tile");
    static constexpr u32 FITTING = ROOM >= 8 ? 8 : ROOM >= 4 ? 4 : ROOM >= 2 ? 2 : 1;
    static constexpr u32 AT_ONCE = FITTING < ROW_TILES ? FITTING : ROW_TILES;                      // row tiles
    static constexpr u32 TILES = ROOM / AT_ONCE < TILES_OF_PASS ? ROOM / AT_ONCE : TILES_OF_PASS;  // tiles
    static constexpr u32 WORDS = AT_ONCE * 8 * TILE_ROWS;                                           // of a tile
    static constexpr bool WHOLE = AT_ONCE == ROW_TILES && TILES == TILES_OF_PASS;
};

// Partial sums of some tiles in the partials region, and where they belong.
struct Partials {
    u32 at;      // words from the beginning of the region
    u32 stride;  // words of a warp
    u32 words;   // of a tile
    u32 shift;   // 2^shift tokens of each tile are added up
    u32 tiles;   // 0: there are none
    u32 local;   // the block's tile
    u32 token;
    u32 row_tiles;
    u32 turn;    // threads take the sums in turn, from this one on
};

// y of some tiles, through the epilogue, N products of a thread at a time. By all consumers.
template <u32 N> DEVICE void finish_some(const Program& program, Shared& shared, u32 first_tile, const Partials& of, u32 count) {
    const u32 r = threadIdx.x % TILE_ROWS;
    const Epilogue epilogue(program, shared, of.row_tiles);
#pragma unroll 1
    for (u32 at = threadIdx.x ^ of.turn; at < count; at += N * CONSUMER_THREADS) {
        Product products[N];
        float sums[N][CONSUMER_WARPS];
#pragma unroll
        for (u32 i = 0; i < N; i++) {
            const u32 own = at + i * CONSUMER_THREADS;
            const bool exists = own < count;
            const u32 token = own / TILE_ROWS & ((1u << of.shift) - 1), tile = exists ? (own / TILE_ROWS) >> of.shift : 0;
            const float* const from = (const float*)shared_region(PARTIALS_AT) + of.at + tile * of.words + partial_word(r, token);
#pragma unroll
            for (u32 warp = 0; warp < CONSUMER_WARPS; warp++) sums[i][warp] = from[warp * of.stride];
            products[i] = {first_tile + of.local + tile, of.local + tile, of.token + token, 0.0f, 0.0f, 0, 0, exists};
        }
#pragma unroll
        for (u32 i = 0; i < N; i++) {
            products[i].sum = sums[i][0];
#pragma unroll
            for (u32 warp = 1; warp < CONSUMER_WARPS; warp++) products[i].sum = __fadd_rn(products[i].sum, sums[i][warp]);
        }
        finish(program, shared, epilogue, r, products);
    }
}

// The same; a function that is called, for it is long. A thread has one product of few rows, and several of many.
DEVICE_CALL void finish_tiles(const Program& program, Shared& shared, u32 first_tile, const Partials of) {
    const u32 count = (of.tiles * TILE_ROWS) << of.shift;
    if (count <= CONSUMER_THREADS) finish_some<1>(program, shared, first_tile, of, count);
    else finish_some<2>(program, shared, first_tile, of, count);
}

// Where passes exchange their sums, and the sums of tokens of formats with offsets.
//
// If the sums of a pass fill no more than half of the region, passes take turns with the halves, and what a pass has summed up is
// finished at the end of the next one: then no warp waits for another, and while some warps finish, the others multiply. Warps say
// at `summed` that their sums are there.
template <typename F, u32 ROW_TILES> struct Turns {
    static constexpr u32 GROUP = Widths<ROW_TILES>::GROUP < TILE_GROUP ? Widths<ROW_TILES>::GROUP : TILE_GROUP;
    static constexpr u32 SUMS_BYTES = F::HAS_OFFSET ? F::FOLDS * ROW_TILES * 32 : 0;  // of a warp
    static constexpr u32 ALL_SUMS = CONSUMER_WARPS * SUMS_BYTES;
    static constexpr u32 HALF = ALL_SUMS < PARTIAL_BYTES ? (PARTIAL_BYTES - ALL_SUMS) / 256 * 128 : 0;

    // Few words, for they live as long as the accumulators.
    bool taken;  // whether they do
    u32 tiles;   // of the pass that is not finished; 0: there is none
    u32 local;   // its first tile

    METHOD void begin(u32 rows) {
        // More rows than eight fill more than half of the region.
        const u32 bytes = CONSUMER_WARPS * GROUP * (TILE_ROWS << rows_shift(rows)) * 4;
        taken = ROW_TILES == 1 && Exchange<ROW_TILES, GROUP>::WHOLE && bytes <= HALF;
        tiles = 0;
    }

    // Where pass number `pass` has its sums, and how they are finished. One half of the warps is first in one pass and the other in
    // the next.
    METHOD Partials of_pass(const Shared& shared, u32 pass) const {
        const u32 shift = rows_shift(phase_rows(shared)), words = TILE_ROWS << shift, odd = pass & 1;
        return {odd * (HALF / 4), GROUP * words, words, shift, tiles, local, 0, ROW_TILES, odd * (CONSUMER_THREADS / 2)};
    }

    // Shared address of the warp's sums of tokens, `own` being the bytes of its partial sums.
    METHOD u32 sums(u32 own) const {
        const u32 at = taken ? 2 * HALF + threadIdx.x / 32 * SUMS_BYTES : threadIdx.x / 32 * own;
        return shared_address(shared_region(PARTIALS_AT)) + at;
    }

    // What is left of the last pass.
    METHOD void finish_last(const Program& program, Shared& shared, const Reader& reader, u32 first_tile) {
        if (tiles == 0) return;
        // Orders the sums of all warps, row scales and the beginning of `best` before they are read.
        for (u32 polls = 1; !mbarrier_try(shared_address(&shared.summed), reader.passes - 1 & 1);)
            if (++polls == program.patience) give_up(program.host, WAIT_SUMS, reader.passes, 0);
        finish_tiles(program, shared, first_tile, of_pass(shared, reader.passes - 1));
        tiles = 0;
    }
};

// The sums of a pass, to be finished later. `local`: the block's first tile of the pass.
template <typename F, u32 ROW_TILES, u32 WIDTH>
DEVICE void leave_sums(const Program& program, Shared& shared, Reader& reader, Turns<F, ROW_TILES>& turns, u32 first_tile,
                       u32 local, const float (&acc)[WIDTH][ROW_TILES][4]) {
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Also says that all have finished the pass before that one, which had this half.
    turns.finish_last(program, shared, reader, first_tile);
    const Partials own = turns.of_pass(shared, reader.passes);
#pragma unroll
    for (u32 n = 0; n < ROW_TILES; n++) {
        const u32 pair = n * 4 + lane % 4;
        if (pair * 2 * TILE_ROWS >= own.words) continue;
        float* const to = (float*)shared_region(PARTIALS_AT) + own.at + warp * own.stride + pair * 32 + lane / 4;
#pragma unroll
        for (u32 tile = 0; tile < WIDTH; tile++)
#pragma unroll
            for (u32 i = 0; i < 4; i++) to[tile * own.words + ((i % 2 * 2 + i / 2) ^ lane % 4) * 8] = acc[tile][n][i];
    }
    // Orders the lanes' sums before lane 0 arrives for them.
    __syncwarp();
    if (lane == 0) mbarrier_arrive(shared_address(&shared.summed));
    turns.tiles = WIDTH;
    turns.local = local;
    reader.passes++;
}

// What a pass has summed up becomes y and goes through the epilogue. `local`: the block's first tile of the pass.
template <u32 ROW_TILES, u32 WIDTH>
DEVICE void exchange(const Program& program, Shared& shared, u32 first_tile, u32 local, const float (&acc)[WIDTH][ROW_TILES][4]) {
    typedef Exchange<ROW_TILES, WIDTH> Sizes;
    constexpr u32 AT_ONCE = Sizes::AT_ONCE, TILES = Sizes::TILES;
    constexpr u32 TOKENS = AT_ONCE * 8, PARTS = ROW_TILES / AT_ONCE, WORDS = Sizes::WORDS;
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u32 rows = phase_rows(shared);
#pragma unroll
    for (u32 first = 0; first < WIDTH; first += TILES)
#pragma unroll
        for (u32 part = 0; part < PARTS; part++) {
            // Where register 0 of row tile 0 goes; the others follow by constants, but for the exchange of groups.
            float* const to = (float*)shared_region(PARTIALS_AT) + warp * TILES * WORDS + lane % 4 * 32 + lane / 4;
#pragma unroll
            for (u32 tile = first; tile < first + TILES && tile < WIDTH; tile++)
#pragma unroll
                for (u32 n = part * AT_ONCE; n < (part + 1) * AT_ONCE; n++)
#pragma unroll
                    for (u32 i = 0; i < 4; i++)
                        to[(tile - first) * WORDS + n % AT_ONCE * 128 + ((i % 2 * 2 + i / 2) ^ lane % 4) * 8] = acc[tile][n][i];
            // Orders the partial sums before they are added up; row scales and the beginning of `best` as well.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
            const u32 there = part * TOKENS < rows ? smaller(rows - part * TOKENS, TOKENS) : 0;
            const u32 tiles = there > 0 ? smaller(TILES, WIDTH - first) : 0;
            finish_tiles(program, shared, first_tile,
                         {0, TILES * WORDS, WORDS, rows_shift(there), tiles, local + first, part * TOKENS, ROW_TILES, 0});
            // Orders the reads before the region is written again.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        }
}
