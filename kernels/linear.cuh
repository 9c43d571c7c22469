// y = x W^T of one stack of tiles, by the eight consumer warps of a block. Warp s multiplies slice s of every chunk, stage by
// stage as the ring delivers them, and keeps the sums of a pass in registers; the warps' sums are added up in ascending order
// through shared memory. So the bits of y depend on K and the format alone: not on how many rows there are, how many tiles a
// pass has, or which block works on it.
//
// What a stage holds is multiplied without a branch, so that reading, decoding and multiplying of its blocks overlap: two warps
// of a quarter of an SM hide little of each other.
#pragma once
#include "exchange.cuh"
#include "formats.cuh"
#include "norm.cuh"
#include "ring.cuh"
#include "slices.cuh"

// Tiles of the block's span.
DEVICE u32 span_tiles(const Span& span) { return span.tiles & ~SPAN_ARRIVES; }

// How a pass of WIDTH tiles goes through its chunks.
template <typename F, u32 ROW_TILES, u32 WIDTH> struct Steps {
    // Few tokens stay in registers over the tiles of a pass; of many, some at a time are read again for each tile.
    static constexpr bool HOLD = ROW_TILES <= 4 && F::FOLDS * ROW_TILES <= 8;
    static constexpr u32 AT_ONCE = HOLD ? ROW_TILES : ROW_TILES <= 2 || F::FOLDS == 4 ? 1 : 2;
    // Tiles of a stage, and chunks that one stage of a whole group has.
    static constexpr u32 UNIT = unit_of<F>(), TILES = UNIT < WIDTH ? UNIT : WIDTH, OF_STAGE = UNIT / TILES;
    // Chunks that are multiplied without a branch between them, where their tokens leave room.
    static constexpr bool IS_LIGHT = F::FOLDS == 1 && !F::HAS_OFFSET;
    static constexpr u32 CHUNKS = IS_LIGHT && HOLD && ROW_TILES <= 2 && OF_STAGE <= Widths<ROW_TILES>::SLOTS ? OF_STAGE : 1;
    // Blocks that overlap: as many as leave room for sums of folds, offsets and tokens.
    static constexpr u32 TOGETHER = IS_LIGHT ? CHUNKS * TILES : 1;
    // Sums of tokens lie where the warp's partial sums will.
    typedef Exchange<ROW_TILES, WIDTH> Sizes;
    static constexpr u32 SUMS_STRIDE = ROW_TILES * 32;
    static_assert(!F::HAS_OFFSET || F::FOLDS * SUMS_STRIDE <= Sizes::TILES * Sizes::WORDS * 4, "partials are too small");
};

// Multiplies CHUNKS chunks of TILES tiles, whose blocks follow each other from shared address `blocks` on: acc[tile] += ...
// `tokens` are those of the chunks; if too many to hold, they are read from `slot` again for each tile. `sums`: see sum_tokens, of
// formats with offsets, which take one chunk at a time.
template <typename F, u32 ROW_TILES, u32 CHUNKS, u32 TILES, u32 TOGETHER, u32 AT_ONCE, bool HOLD>
DEVICE void multiply_blocks(u32 blocks, u32 columns, u32 bytes, const Slices<ROW_TILES>& slots, u32 slot,
                            const uint4 (&tokens)[CHUNKS][2][AT_ONCE], u32 sums, float (*acc)[ROW_TILES][4]) {
    constexpr u32 SUMS_STRIDE = ROW_TILES * 32;
    const u32 warp = threadIdx.x / 32;
    Slice<F> slices[TOGETHER];
#pragma unroll
    for (u32 i = 0; i < CHUNKS * TILES; i++) {
        if (i % TOGETHER == 0) {
            // Orders nothing that needs it: keeps ptxas from reading more blocks at once, and spilling.
            if (i > 0) __syncwarp();
#pragma unroll
            for (u32 j = 0; j < TOGETHER; j++) slices[j].load(blocks + (i + j) * bytes, columns, warp);
        }
        const Slice<F>& slice = slices[i % TOGETHER];
        const u32 chunk = i / TILES, tile = i % TILES;
        u32 a[4][F::MULTIPLES][4];
#pragma unroll
        for (u32 step = 0; step < 4; step++)
#pragma unroll
            for (u32 m = 0; m < F::MULTIPLES; m++) F::fragment(slice.words, step, m, a[step][m]);
#pragma unroll
        for (u32 n = 0; n < ROW_TILES; n += AT_ONCE) {
            if constexpr (HOLD) {
                multiply_slice<F, AT_ONCE>(slice, a, tokens[chunk], sums, SUMS_STRIDE, acc[tile]);
            } else {
                // Orders nothing that needs it: keeps ptxas from reading all tokens at once, and spilling.
                __syncwarp();
                uint4 some[2][AT_ONCE];
                slots.load(slot, n, some);
                multiply_slice<F, AT_ONCE>(slice, a, some, sums + n * 32, SUMS_STRIDE, acc[tile] + n);
            }
        }
    }
}

// One pass: WIDTH tiles of a group, whose stages have `of_stage` full chunks each. `local`: the block's first tile of the pass.
template <typename F, u32 ROW_TILES, u32 WIDTH>
DEVICE void linear_pass(const Program& program, Shared& shared, Reader& reader, Slices<ROW_TILES>& slices, const Span& span,
                        Turns<F, ROW_TILES>& turns, u32 local, u32 of_stage) {
    typedef Steps<F, ROW_TILES, WIDTH> Of;
    constexpr u32 CHUNKS = Of::CHUNKS, TILES = Of::TILES, AT_ONCE = Of::AT_ONCE, FULL = block_bytes<F>(CHUNK);
    constexpr u32 TOGETHER = Of::TOGETHER < TILES ? Of::TOGETHER : TILES;
    constexpr bool HOLD = Of::HOLD;
    const u32 warp = threadIdx.x / 32;
    const u32 sums = turns.sums(Of::Sizes::TILES * Of::Sizes::WORDS * 4);
    float acc[WIDTH][ROW_TILES][4] = {};
    u32 rest = shared.phase.linear.k;  // columns that are left
    slices.begin_pass();
    if constexpr (CHUNKS > 1) {
#pragma unroll 1
        for (; of_stage == CHUNKS && rest >= CHUNKS * CHUNK; rest -= CHUNKS * CHUNK) {
            uint4 tokens[CHUNKS][2][AT_ONCE];
            slices.template wait<CHUNKS>();
#pragma unroll
            for (u32 i = 0; i < CHUNKS; i++) slices.load(slices.slot(i), 0, tokens[i]);
            slices.template release<CHUNKS>(shared);
            const u32 blocks = reader.open(program, shared);
            multiply_blocks<F, ROW_TILES, CHUNKS, TILES, Of::TOGETHER, AT_ONCE, true>(blocks, CHUNK, FULL, slices, 0, tokens,
                                                                                      sums, acc);
            reader.close(program, shared);
        }
    }
    u32 read = 0;  // chunks of the stage
#pragma unroll 1
    while (rest > 0) {
        const u32 columns = HAS_SHORT_CHUNKS ? smaller(CHUNK, rest) : CHUNK, bytes = block_bytes<F>(columns);
        const bool works = !HAS_SHORT_CHUNKS || warp * SLICE < columns;
        rest -= columns;
        uint4 tokens[1][2][AT_ONCE] = {};
        u32 slot = 0;
        if (works) {
            slices.template wait<1>();
            slot = slices.slot(0);
#pragma unroll 1
            for (u32 i = 0; i < ROW_TILES; i += AT_ONCE) {
                if (HOLD || F::HAS_OFFSET) slices.load(slot, i, tokens[0]);
                if constexpr (F::HAS_OFFSET) sum_tokens<F, AT_ONCE>(tokens[0], sums + i * 32, Of::SUMS_STRIDE);
            }
            // Orders the sums of four lanes before the others read them.
            if (F::HAS_OFFSET) __syncwarp();
            if (HOLD) slices.template release<1>(shared);
        }
#pragma unroll
        for (u32 tile = 0; tile < WIDTH; tile += TILES) {
            const u32 blocks = reader.open(program, shared) + read * TILES * bytes;
            if (works)
                multiply_blocks<F, ROW_TILES, 1, TILES, TOGETHER, AT_ONCE, HOLD>(blocks, columns, bytes, slices, slot, tokens,
                                                                                 sums, acc + tile);
            // The next chunk is in the same stage if that has more, and neither it nor this one is the short last one.
            if (++read < of_stage && rest >= CHUNK) continue;
            reader.close(program, shared);
            read = 0;
        }
        if (works && !HOLD) slices.template release<1>(shared);
        // Orders the reads of sums of tokens before those of the next chunk, or partial sums, take their place.
        if (F::HAS_OFFSET) __syncwarp();
    }
    if (Exchange<ROW_TILES, WIDTH>::WHOLE && turns.taken) {
        leave_sums<F, ROW_TILES, WIDTH>(program, shared, reader, turns, span.first_tile, local, acc);
    } else {
        // All warps wait for each other now.
        reader.settle(program, shared);
        exchange<ROW_TILES, WIDTH>(program, shared, span.first_tile, local, acc);
    }
}

// All passes over a span for calls of ROW_TILES row tiles.
template <typename F, u32 ROW_TILES>
DEVICE void linear_rows(const Program& program, Shared& shared, Reader& reader, const Span& span) {
    constexpr u32 GROUP = Turns<F, ROW_TILES>::GROUP;
    const u32 tiles = span_tiles(span);
    // Groups after the whole ones: one for each bit of what is left. A group is taken in equal parts.
    const u32 rest = tiles % TILE_GROUP;
    const u32 passes = tiles / TILE_GROUP * (TILE_GROUP / GROUP) + rest / GROUP + __popc(rest % GROUP);
    const u32 rows = phase_rows(shared);
    Slices<ROW_TILES> slices;
    slices.begin(program, shared, rows, passes);
    Turns<F, ROW_TILES> turns;
    turns.begin(rows);
    const LinearPhase& phase = shared.phase.linear;
    if (phase.epilogue == EPILOGUE_RESIDUAL || phase.epilogue == EPILOGUE_BEGIN)
        fetch_view_weights(program, shared, {phase.view, phase.view_weight, NONE, 0, 0}, span.first_tile, tiles, phase.parts[0].n);
    // Only here, for nothing before depends on it.
    wait_edge(program, shared.phase, shared.call.run);
    slices.start(shared);
    if (shared.phase.linear.stats != NONE) row_scales(program, shared);
#pragma unroll 1
    for (u32 first = 0, group = 0; first < tiles; first += group) {
        group = group_of(tiles - first);
        const u32 width = smaller(GROUP, group);
        const u32 of_stage = width < group ? 1 : larger(unit_of<F>() / group, 1u);
#pragma unroll 1
        for (u32 begin = first; begin < first + group; begin += width) {
            switch (width) {
                case 1: linear_pass<F, ROW_TILES, 1>(program, shared, reader, slices, span, turns, begin, of_stage); break;
                case 2:
                    if constexpr (GROUP >= 2)
                        linear_pass<F, ROW_TILES, 2>(program, shared, reader, slices, span, turns, begin, of_stage);
                    break;
                case 4:
                    if constexpr (GROUP >= 4)
                        linear_pass<F, ROW_TILES, 4>(program, shared, reader, slices, span, turns, begin, of_stage);
                    break;
            }
        }
    }
    reader.settle(program, shared);
    turns.finish_last(program, shared, reader, span.first_tile);
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

// The phase shared.phase.linear of the call shared.call, by the block's consumers. They wait for its edge here, and arrive after.
template <typename F>
DEVICE void linear(const Program& program, Shared& shared, const Span& span) {
    const LinearPhase& phase = shared.phase.linear;
    if (span_tiles(span) == 0) {
        wait_edge(program, shared.phase, shared.call.run);
        return linear_idle(program, shared);
    }
    // Asked twice, so that no register holds it meanwhile.
    const auto keeps_best = [&] { return phase.epilogue == EPILOGUE_ROWS && phase.best != NONE; };
    if (keeps_best()) begin_best(shared);
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
    if (!keeps_best()) return;
    // Orders what all threads kept before it is stored.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    store_best(program, shared);
}
