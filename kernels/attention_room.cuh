// Shared memory of attention.
#pragma once
#include "attention_split.cuh"

// Bytes from a row of a head in shared memory to the next: padded by 16, so that the eight rows of a matrix lie in different banks.
template <u32 HEAD_DIM> DEVICE constexpr u32 head_pitch() { return 2 * HEAD_DIM + 16; }

// Where things lie in scratch and partials, which follow each other, for row blocks of up to TILES tiles.
template <u32 HEAD_DIM, u32 TILES> struct AttentionRoom {
    static constexpr u32 PITCH = head_pitch<HEAD_DIM>();
    static constexpr u32 WEIGHT_PITCH = 2 * 64 + 16;
    static constexpr u32 SPLIT_AT = SCRATCH_AT;                                          // Split
    static constexpr u32 ANCESTORS_AT = SPLIT_AT + 64;                                   // u64 [row of the call]
    static constexpr u32 QUERIES_AT = ANCESTORS_AT + 8 * ROW_CAPACITY;                   // [row][HEAD_DIM]
    static constexpr u32 WEIGHTS_AT = QUERIES_AT + TILES * TILE_ROWS * PITCH;            // [row][position 64]
    static constexpr u32 LARGEST_AT = WEIGHTS_AT + TILES * TILE_ROWS * WEIGHT_PITCH;     // f32 [row][warp]
    static constexpr u32 RING_AT = LARGEST_AT + TILES * TILE_ROWS * CONSUMER_WARPS * 4;  // [slot][position][HEAD_DIM]
    static constexpr u32 END = PARTIALS_AT + PARTIAL_BYTES;
    static constexpr u32 FREE = END > RING_AT ? END - RING_AT : 0;
    // Wide portions need fewer barriers, but one in use and two under way matter more.
    static constexpr u32 PORTION = FREE >= 3 * 64 * PITCH ? 64 : FREE >= 3 * 32 * PITCH ? 32 : 16;  // positions
    static constexpr u32 SLOT_BYTES = PORTION * PITCH;
    static constexpr u32 FIT = FREE / SLOT_BYTES;
    static constexpr u32 SLOTS = FIT < 8 ? FIT : 8;
    static constexpr u32 PORTIONS = 64 / PORTION;  // of K in a unit, and of V

    // In place of the ring when the stream is over, for the units of a tree: K of the call's rows and products of the
    // queries of a tile with it, in the order of positions; then V of the rows, a row of zeros, and V of positions
    // before the call, as many at once as there is room for. Where there is more room, V does not wait for K to go.
    static constexpr u32 PRODUCT_PITCH = 4 * 64 + 16;
    static constexpr u32 PRODUCT_BYTES = TILE_ROWS * PRODUCT_PITCH;
    static constexpr u32 OWN_VALUES = ROW_CAPACITY + 1;  // rows of V that are not of positions before the call
    static constexpr u32 BESIDE_OWN = FREE > OWN_VALUES * PITCH ? (FREE - OWN_VALUES * PITCH) / PITCH / 16 * 16 : 0;
    static constexpr u32 COMMON = BESIDE_OWN < 64 ? BESIDE_OWN : 64;  // positions before the call
    static constexpr u32 LATER_FREE = FREE > PRODUCT_BYTES ? FREE - PRODUCT_BYTES : 0;
    static constexpr bool HOLDS_TREE = COMMON >= 16 && LATER_FREE >= ROW_CAPACITY * PITCH;
    static constexpr bool HOLDS_COMMON = LATER_FREE >= (OWN_VALUES + COMMON) * PITCH;
    static constexpr bool HOLDS_VALUES = LATER_FREE >= (ROW_CAPACITY + OWN_VALUES + COMMON) * PITCH;
    static constexpr u32 KEYS_AT = RING_AT;                  // [row][HEAD_DIM]
    static constexpr u32 PRODUCTS_AT = END - PRODUCT_BYTES;  // f32 [row of a tile][position 64]
    // [row, zeros, position][HEAD_DIM]
    static constexpr u32 VALUES_AT = RING_AT + (HOLDS_VALUES ? ROW_CAPACITY * PITCH : 0);

    static constexpr bool IS_ENOUGH = SLOTS >= 2 && HOLDS_TREE;
};

static_assert(sizeof(Split) <= 64, "Split");
