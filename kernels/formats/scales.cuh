// Groups along K that share a scale, and where they lie behind the elements of a block.
#pragma once
#include "prelude.cuh"

// GROUP columns share a scale, 0: the whole row. A slice of 64 columns is summed in FOLDS parts.
template <u32 GROUP, bool OFFSET> struct Scales {
    static_assert(GROUP == 0 || GROUP == 16 || GROUP == 32 || GROUP == 128, "GROUP");
    static constexpr bool SCALED = true, HAS_OFFSET = OFFSET;
    static constexpr u32 GROUP_BYTES = OFFSET ? 64 : 32;
    static constexpr u32 FOLDS = GROUP == 16 ? 4 : GROUP == 32 ? 2 : 1;
    static constexpr u32 MULTIPLES = 1;

    // Of a block; it repeats the one scale of a whole row.
    static CONSTANT u32 groups(u32 columns) { return GROUP ? divide_up(columns, GROUP ? GROUP : 1) : 1; }
    // Group of a block's column.
    static METHOD u32 group_of(u32 k) { return GROUP ? k / (GROUP ? GROUP : 1) : 0; }
    static METHOD u32 group(u32 slice, u32 fold) {
        return GROUP == 0 ? 0 : GROUP == 128 ? slice / 2 : slice * FOLDS + fold;
    }
};

// Elements that are numbers by themselves.
struct NoScales {
    static constexpr bool SCALED = false, HAS_OFFSET = false;
    static constexpr u32 GROUP_BYTES = 0, FOLDS = 1;
    static CONSTANT u32 groups(u32) { return 0; }
};

// Where fragments place an element (row, k): 16 bytes of lane 4 g + t, rows g and g + 8 (`upper`), of its 8 columns the first
// or last four (`step`), the first or last two of these (`pair`), and which of these (`odd`).
struct Spot {
    u32 block, lane, step, pair, odd, upper;
};
DEVICE Spot spot_of(u32 row, u32 k) {
    return {k / 32, 4 * (row % 8) + k % 32 / 8, k % 8 / 4, k % 4 / 2, k % 2, row / 8};
}
