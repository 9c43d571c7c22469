// y = x W^T of one stack of tiles, by the eight consumer warps of a block. Warp s multiplies slice s of every chunk, tile by
// tile as the ring delivers them, and keeps the sums of a pass in registers; the warps' sums are added up in ascending order
// through shared memory. So the bits of y depend on K and the format alone: not on how many rows there are, how many tiles a
// pass has, or which block works on it.
#pragma once
#include "epilogue.cuh"
#include "formats.cuh"
#include "norm.cuh"
#include "ring.cuh"

// Sizes for calls of that many row tiles: tiles of a pass, and slices of activations that a warp holds.
template <u32 ROW_TILES> struct Widths;
template <> struct Widths<1> { static constexpr u32 GROUP = GROUP_1, SLOTS = SLOTS_1; };
template <> struct Widths<2> { static constexpr u32 GROUP = GROUP_2, SLOTS = SLOTS_2; };
template <> struct Widths<4> { static constexpr u32 GROUP = GROUP_4, SLOTS = SLOTS_4; };
template <> struct Widths<8> { static constexpr u32 GROUP = GROUP_8, SLOTS = SLOTS_8; };

DEVICE u32 group_width(u32 row_tiles) {
    return row_tiles == 1 ? GROUP_1 : row_tiles == 2 ? GROUP_2 : row_tiles == 4 ? GROUP_4 : GROUP_8;
}

// Tiles of the block's span.
DEVICE u32 span_tiles(const Span& span) { return span.tiles & ~SPAN_ARRIVES; }

// Copies a warp's slices of activations to its part of the scratch region, SLOTS slices ahead of the multiplication, one
// chunk after the other and from the beginning again for each pass. Only this warp reads them, so there is no barrier.
template <u32 ROW_TILES> struct Slices {
    static constexpr u32 SLOTS = Widths<ROW_TILES>::SLOTS, BYTES = ROW_TILES * 1024;
    static_assert(CONSUMER_WARPS * SLOTS * BYTES <= SCRATCH_BYTES, "scratch is too small");

    // Few words, for they live as long as the accumulators; the rest is read again from the phase.
    u32 at;    // workspace: slice of the next copy
    u32 left;  // copies still to be started
    u32 turn;  // slot of the next read, and then of the copy that takes it

    // Row tiles of the input.
    static METHOD u32 input_tiles(const Shared& shared) {
        return shared.phase.linear.input_rows == ROWS_OUTPUT ? shared.call.output_tiles : shared.call.row_tiles;
    }

    // Chunks in which the warp has a slice.
    static METHOD u32 chunks(const Shared& shared) {
        const u32 k = shared.phase.linear.k;
        return k / CHUNK + (threadIdx.x / 32 * SLICE < k % CHUNK);
    }

    METHOD u32 first(const Shared& shared) const {
        return shared.phase.linear.input + threadIdx.x / 32 * (SLICE / 32) * input_tiles(shared) * 512;
    }

    METHOD void begin(const Program& program, const Shared& shared, u32 passes) {
        at = first(shared);
        left = passes * chunks(shared);
        turn = 0;
        for (u32 i = 0; i < SLOTS; i++) {
            copy_next(program, shared);
            turn = SLOTS == 1 ? 0 : turn ^ 1;
        }
    }

    METHOD u32 slot() const {
        const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        return shared_address(shared_region(SCRATCH_AT)) + (warp * SLOTS + turn) * BYTES + lane * 16;
    }

    // Starts the next copy, if there is one, into the slot in turn, which no lane reads any more.
    METHOD void copy_next(const Program& program, const Shared& shared) {
        const u32 lane = threadIdx.x % 32;
        if (left > 0) {
            const u32 row_tiles = input_tiles(shared), stride = CHUNK / 32 * row_tiles * 512;
            const u64 source = program.workspace + at;
            const u32 target = slot();
            if (shared.phase.linear.input_rows == ROWS_GATHERED) {
// One after the other: addresses of many at a time would take the registers of sums.
#pragma unroll 1
                for (u32 n = 0; n < ROW_TILES; n++) {
                    const u32 token = n * 8 + lane / 4;
                    // Rows beyond the last repeat row 0; nobody uses what comes of them.
                    const u32 row = token < shared.call.output_rows ? shared.call.outputs[token] : 0;
                    const u64 piece = source + row / 8 * 512 + (row % 8 * 4 + lane % 4) * 16;
                    copy_16(target + n * 512, piece);
                    copy_16(target + (ROW_TILES + n) * 512, piece + row_tiles * 512);
                }
            } else {
#pragma unroll
                for (u32 i = 0; i < 2 * ROW_TILES; i++) copy_16(target + i * 512, source + i * 512 + lane * 16);
            }
            left--;
            at += stride;
            if (at - first(shared) == chunks(shared) * stride) at = first(shared);
        }
        // Also where there was none, so that the number of groups under way says which slot is full.
        commit_copies();
    }

    // The slot of the next slice, once its copies have landed.
    METHOD u32 wait() const {
        wait_copies<SLOTS - 1>();
        // Each lane has waited for its own copies; orders them before the reads of the others.
        __syncwarp();
        return slot();
    }

    // After all lanes have read the slice: starts the copy that takes its slot.
    METHOD void release(const Program& program, const Shared& shared) {
        // Orders the reads before the copies that overwrite.
        __syncwarp();
        copy_next(program, shared);
        turn = SLOTS == 1 ? 0 : turn ^ 1;
    }
};

// The tokens of N row tiles from `first` on, [k32 block][row tile].
template <u32 ROW_TILES, u32 N> DEVICE void load_tokens(u32 slot, u32 first, uint4 (&tokens)[2][N]) {
#pragma unroll
    for (u32 block = 0; block < 2; block++)
#pragma unroll
        for (u32 n = 0; n < N; n++) tokens[block][n] = load_shared(slot + (block * ROW_TILES + first + n) * 512);
}

// Sums of a slice go to the partials region as [warp][tile][token pair][32 words], the words of a pair being token parity and
// row. Groups of 8 words are exchanged so that neither the lanes of a fragment nor those of a sum meet in a bank.
DEVICE u32 partial_word(u32 row, u32 token) {
    const u32 pair = token / 2;
    return pair * 32 + ((token % 2 * 2 + row / 8) ^ pair % 4) * 8 + row % 8;
}

// How much of a pass the partials region holds at a time.
template <u32 ROW_TILES, u32 GROUP> struct Exchange {
    static constexpr u32 ROOM = PARTIAL_BYTES / (CONSUMER_WARPS * TILE_ROWS * 8 * 4);
    static_assert(ROOM >= 1, "partials do not hold a row tile");
    static constexpr u32 FITTING = ROOM >= 8 ? 8 : ROOM >= 4 ? 4 : ROOM >= 2 ? 2 : 1;
    static constexpr u32 AT_ONCE = FITTING < ROW_TILES ? FITTING : ROW_TILES;      // row tiles
    static constexpr u32 TILES = ROOM / AT_ONCE < GROUP ? ROOM / AT_ONCE : GROUP;  // tiles
    static constexpr u32 WORDS = AT_ONCE * 8 * TILE_ROWS;                           // of a tile
};

// What a pass has summed up becomes y and goes through the epilogue. `local`: the block's first tile of the pass.
template <u32 ROW_TILES, u32 GROUP>
DEVICE void exchange(const Program& program, Shared& shared, const Span& span, u32 local, u32 width,
                     const float (&acc)[GROUP][ROW_TILES][4]) {
    typedef Exchange<ROW_TILES, GROUP> Sizes;
    constexpr u32 AT_ONCE = Sizes::AT_ONCE, TILES = Sizes::TILES;
    constexpr u32 TOKENS = AT_ONCE * 8, WORDS = Sizes::WORDS, PARTS = ROW_TILES / AT_ONCE;
    float* const partials = (float*)shared_region(PARTIALS_AT);
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (u32 first = 0; first < width; first += TILES)
        for (u32 part = 0; part < PARTS; part++) {
            // Where register 0 of row tile 0 goes; the others follow by constants, but for the exchange of groups.
            float* const to = partials + warp * TILES * WORDS + lane % 4 * 32 + lane / 4;
#pragma unroll
            for (u32 tile = 0; tile < GROUP; tile++)
#pragma unroll
                for (u32 n = 0; n < ROW_TILES; n++)
                    if (tile >= first && tile < first + TILES && n / AT_ONCE == part) {
#pragma unroll
                        for (u32 i = 0; i < 4; i++)
                            to[(tile - first) * WORDS + n % AT_ONCE * 128 + ((i % 2 * 2 + i / 2) ^ lane % 4) * 8] =
                                acc[tile][n][i];
                    }
            // Orders the partial sums before they are added up; row scales and the beginning of `best` as well.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
            const u32 count = smaller(TILES, width - first) * WORDS;
            for (u32 at = threadIdx.x; at < count; at += CONSUMER_THREADS) {
                const u32 r = at % TILE_ROWS, token = at / TILE_ROWS % TOKENS, tile = at / WORDS;
                const float* const from = partials + tile * WORDS + partial_word(r, token);
                float sum = from[0];
#pragma unroll
                for (u32 other = 1; other < CONSUMER_WARPS; other++)
                    sum = __fadd_rn(sum, from[other * TILES * WORDS]);
                const u32 at_tile = local + first + tile;
                finish(program, shared, span.first_tile + at_tile, at_tile, r, part * TOKENS + token, ROW_TILES, sum);
            }
            // Orders the reads before the region is written again.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        }
}

// All passes over a span for calls of ROW_TILES row tiles.
template <typename F, u32 ROW_TILES>
DEVICE void linear_rows(const Program& program, Shared& shared, Reader& reader, const Span& span) {
    constexpr u32 GROUP = Widths<ROW_TILES>::GROUP < TILE_GROUP ? Widths<ROW_TILES>::GROUP : TILE_GROUP;
    // Few tokens stay in registers over the tiles of a pass; of many, some at a time are read again for each tile.
    constexpr bool HOLD = ROW_TILES <= 4 && F::FOLDS * ROW_TILES <= 8;
    constexpr u32 AT_ONCE = HOLD ? ROW_TILES : ROW_TILES <= 2 || F::FOLDS == 4 ? 1 : 2;
    // Sums of tokens lie where the warp's partial sums will.
    typedef Exchange<ROW_TILES, GROUP> Sizes;
    constexpr u32 SUMS_STRIDE = ROW_TILES * 32;
    static_assert(!F::HAS_OFFSET || F::FOLDS * SUMS_STRIDE <= Sizes::TILES * Sizes::WORDS * 4, "partials are too small");
    const u32 warp = threadIdx.x / 32;
    const u32 tiles = span_tiles(span);
    const u32 passes = tiles / TILE_GROUP * divide_up(TILE_GROUP, GROUP) + divide_up(tiles % TILE_GROUP, GROUP);
    Slices<ROW_TILES> slices;
    slices.begin(program, shared, passes);
    if (shared.phase.linear.stats != NONE) row_scales(program, shared);

    for (u32 first = 0; first < tiles; first += TILE_GROUP) {
        const u32 group = smaller(TILE_GROUP, tiles - first);
        for (u32 begin = 0; begin < group; begin += GROUP) {
            const u32 width = smaller(GROUP, group - begin);
            float acc[GROUP][ROW_TILES][4] = {};
#pragma unroll 1
            for (u32 done = 0; done < shared.phase.linear.k; done += CHUNK) {
                const u32 k = shared.phase.linear.k;
                const u32 columns = smaller(CHUNK, k - done);
                const bool full = columns == CHUNK;
                const u32 bytes = full ? block_bytes<F>(CHUNK) : block_bytes<F>(columns);
                // Runs begin where the tape's do.
                if (GROUP >= group && full) {
                    if (done == 0) reader.begin_run(group * (k / CHUNK), block_bytes<F>(CHUNK));
                } else if (full) {
                    reader.begin_run(width, block_bytes<F>(CHUNK));
                } else {
                    reader.begin_run(width, bytes);
                }
                const bool works = warp * SLICE < columns;
                const u32 sums = shared_address(shared_region(PARTIALS_AT)) + warp * Sizes::TILES * Sizes::WORDS * 4;
                uint4 tokens[2][AT_ONCE] = {};
                u32 slot = 0;
                if (works) {
                    slot = slices.wait();
#pragma unroll 1
                    for (u32 i = 0; i < ROW_TILES; i += AT_ONCE) {
                        if (HOLD || F::HAS_OFFSET) load_tokens<ROW_TILES, AT_ONCE>(slot, i, tokens);
                        if constexpr (F::HAS_OFFSET) sum_tokens<F, AT_ONCE>(tokens, sums + i * 32, SUMS_STRIDE);
                    }
                    // Orders the sums of four lanes before the others read them.
                    if (F::HAS_OFFSET) __syncwarp();
                    if (HOLD) slices.release(program, shared);
                }
#pragma unroll
                for (u32 tile = 0; tile < GROUP; tile++) {
                    if (tile >= width) break;
                    Slice<F> slice = {};
                    const u32 block = reader.open(program, shared, bytes);
                    if (works) slice.load(block, columns, warp);
                    reader.close(program, shared);
                    if (!works) continue;
                    u32 a[4][F::MULTIPLES][4];
#pragma unroll
                    for (u32 step = 0; step < 4; step++)
#pragma unroll
                        for (u32 m = 0; m < F::MULTIPLES; m++) F::fragment(slice.words, step, m, a[step][m]);
#pragma unroll
                    for (u32 i = 0; i < ROW_TILES; i += AT_ONCE) {
                        if (!HOLD) {
                            // Orders nothing that needs it: keeps ptxas from reading all tokens at once, and spilling.
                            __syncwarp();
                            load_tokens<ROW_TILES, AT_ONCE>(slot, i, tokens);
                        }
                        multiply_slice<F, AT_ONCE>(slice, a, tokens, sums + i * 32, SUMS_STRIDE, acc[tile] + i);
                    }
                }
                if (works && !HOLD) slices.release(program, shared);
            }
            // Orders the reads of sums of tokens before partial sums take their place.
            if (F::HAS_OFFSET) __syncwarp();
            exchange<ROW_TILES, GROUP>(program, shared, span, first + begin, width, acc);
        }
    }
}

// The same as a function of its own: what one width needs takes no registers from another, and compiling several small functions
// takes less time than a large one.
template <typename F, u32 ROW_TILES> DEVICE_CALL void linear_width(const Program& program, Shared& shared, Span span) {
    Reader reader = take_reader(shared);
    linear_rows<F, ROW_TILES>(program, shared, reader, span);
    keep_reader(shared, reader);
}

// A block's part of the logits' phase when it has no tiles: its best keys are 0, less than any logit's.
DEVICE void linear_idle(const Program& program, Shared& shared) {
    const LinearPhase& phase = shared.phase.linear;
    if (phase.epilogue != EPILOGUE_ROWS || phase.best == NONE) return;
    begin_best(shared);
    store_best(program, shared);
}

// The phase shared.phase.linear of the call shared.call, by the block's consumers after they have waited for its edge; they
// arrive after.
template <typename F>
DEVICE void linear(const Program& program, Shared& shared, const Span& span) {
    const LinearPhase& phase = shared.phase.linear;
    if (span_tiles(span) == 0) return linear_idle(program, shared);
    const bool keeps_best = phase.epilogue == EPILOGUE_ROWS && phase.best != NONE;
    if (keeps_best) begin_best(shared);
    switch (phase.input_rows == ROWS_ALL ? shared.call.row_tiles : shared.call.output_tiles) {
        case 1:
            if constexpr (ROW_TILE_SET & 1) linear_width<F, 1>(program, shared, span);
            break;
        case 2:
            if constexpr (ROW_TILE_SET & 2) linear_width<F, 2>(program, shared, span);
            break;
        case 4:
            if constexpr (ROW_TILE_SET & 4) linear_width<F, 4>(program, shared, span);
            break;
        case 8:
            if constexpr (ROW_TILE_SET & 8) linear_width<F, 8>(program, shared, span);
            break;
    }
    if (keeps_best) store_best(program, shared);
}
