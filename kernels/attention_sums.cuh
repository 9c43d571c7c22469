// What attention sums up over some keys, and the one way in which sums over keys and over later keys become one.
#pragma once
#include "math.cuh"

// The largest score of a row that sees nothing.
#define SEES_NOTHING float_of(0xff800000u)

// How sums of a row with largest scores `a` and `b` merge. Sums of no keys change nothing, not a bit: a row must not
// notice keys that are there for other rows.
struct Merge {
    float largest;
    float a, b;     // factors; one of them is 1
    bool only_a, only_b;

    METHOD float operator()(float x, float y) const {
        const float sum = __fmaf_rn(y, b, __fmul_rn(x, a));
        return only_a ? x : only_b ? y : sum;
    }
};

DEVICE Merge merge_of(float a, float b) {
    Merge merge;
    merge.only_a = b == SEES_NOTHING;
    merge.only_b = a == SEES_NOTHING;
    merge.largest = larger(a, b);
    // NaN if neither sees anything: not used then.
    const float factor = exact_exp(__fsub_rn(smaller(a, b), merge.largest));
    merge.a = a < b ? factor : 1.0f;
    merge.b = a < b ? 1.0f : factor;
    return merge;
}

// One value for each of up to 16 TILES rows, TILES at most 4. The four lanes that have channels of the same rows share
// them: each keeps those of one tile, which takes a quarter of the registers. All lanes get together.
template <u32 TILES, typename T> struct PerRow {
    T held[2];

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

    // Sums over later keys join.
    METHOD void merge(const Sums& later, u32 tiles) {
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
            if (tile >= tiles) break;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const Merge merge = merge_of(largest.get(tile, half), later.largest.get(tile, half));
                largest.set(tile, half, merge.largest);
                weight.set(tile, half, merge(weight.get(tile, half), later.weight.get(tile, half)));
#pragma unroll
                for (u32 column = 0; column < COLUMNS; column++)
#pragma unroll
                    for (u32 i = 2 * half; i < 2 * half + 2; i++)
                        output[tile][column][i] = merge(output[tile][column][i], later.output[tile][column][i]);
            }
        }
    }
};
