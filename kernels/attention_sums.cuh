// What attention sums up over some keys, and the one way in which sums over keys and over later keys become one.
#pragma once
#include "math.cuh"

// The largest score of a row that sees nothing.
#define SEES_NOTHING float_of(0xff800000u)

// The larger of two scores. NaN is passed over: its weight is NaN, whichever is the largest.
DEVICE float top_of(float a, float b) { return fmaxf(a, b); }

// How sums of a row with two largest scores merge. Sums of no keys change nothing, not a bit: a row must not notice keys that are
// there for other rows.
struct Merge {
    float a, b;  // factors, one of which is 1; -1: the other side has no keys

    METHOD float operator()(float x, float y) const {
        const float sum = __fmaf_rn(y, b, __fmul_rn(x, a));
        return a < 0.0f ? x : b < 0.0f ? y : sum;
    }
};

DEVICE Merge merge_of(float a, float b) {
    // NaN if neither sees anything: not used then.
    const float factor = exact_exp(__fsub_rn(smaller(a, b), top_of(a, b)));
    return {b == SEES_NOTHING ? -1.0f : a < b ? factor : 1.0f, a == SEES_NOTHING ? -1.0f : a < b ? 1.0f : factor};
}

// One value for each of up to 16 TILES rows, TILES at most 4. The four lanes that have channels of the same rows share
// them: each keeps those of one tile, which takes a quarter of the registers, and computes what is a matter of rows for
// that one only. All lanes get together.
template <u32 TILES, typename T> struct PerRow {
    T held[2];

    // Whose values the lane keeps. Of `tiles` tiles; lanes that would have others keep the last, which nobody gets from them.
    static METHOD u32 tile_of_lane(u32 tiles) { return TILES == 1 ? 0 : smaller(threadIdx.x % 4, tiles - 1); }

    METHOD T get(u32 tile, u32 half) const {
        return TILES == 1 ? held[half] : __shfl_sync(ALL_LANES, held[half], (int)tile, 4);
    }
    METHOD void set(u32 tile, u32 half, T value) {
        if (TILES == 1 || threadIdx.x % 4 == tile) held[half] = value;
    }
};

// Of up to 16 TILES rows over 8 COLUMNS channels, as accumulators of mma: index 0 and 1 are row lane / 4 of a tile, 2
// and 3 row lane / 4 + 8, channels 2 (lane % 4) and the next of a column.
template <u32 TILES, u32 COLUMNS> struct Sums {
    float output[TILES][COLUMNS][4];  // of weights times V
    PerRow<TILES, float> weight;      // of weights
    PerRow<TILES, float> largest;     // score; weights are e^(score - largest)

    METHOD void clear() {
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++)
#pragma unroll
            for (u32 column = 0; column < COLUMNS; column++)
#pragma unroll
                for (u32 i = 0; i < 4; i++) output[tile][column][i] = 0.0f;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            weight.held[half] = 0.0f;
            largest.held[half] = SEES_NOTHING;
        }
    }

    // Of one tile: for loops over tiles that are not unrolled, as code which runs seldom should be short.
    METHOD void load_tile(float (&values)[COLUMNS][4], u32 tile) const {
#pragma unroll
        for (u32 of = 0; of < TILES; of++)
#pragma unroll
            for (u32 column = 0; column < COLUMNS; column++)
#pragma unroll
                for (u32 i = 0; i < 4; i++)
                    if (of == 0 || of == tile) values[column][i] = output[of][column][i];
    }
    METHOD void store_tile(u32 tile, const float (&values)[COLUMNS][4]) {
#pragma unroll
        for (u32 of = 0; of < TILES; of++)
#pragma unroll
            for (u32 column = 0; column < COLUMNS; column++)
#pragma unroll
                for (u32 i = 0; i < 4; i++)
                    if (of == tile) output[of][column][i] = values[column][i];
    }

    // Sums over later keys join.
    METHOD void merge(const Sums& later, u32 tiles) {
        PerRow<TILES, float> a, b;  // factors
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const Merge merge = merge_of(largest.held[half], later.largest.held[half]);
            a.held[half] = merge.a;
            b.held[half] = merge.b;
            largest.held[half] = top_of(largest.held[half], later.largest.held[half]);
            weight.held[half] = merge(weight.held[half], later.weight.held[half]);
        }
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
            if (tile >= tiles) break;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const Merge merge = {a.get(tile, half), b.get(tile, half)};
#pragma unroll
                for (u32 column = 0; column < COLUMNS; column++)
#pragma unroll
                    for (u32 i = 2 * half; i < 2 * half + 2; i++)
                        output[tile][column][i] = merge(output[tile][column][i], later.output[tile][column][i]);
            }
        }
    }
};
