// How the work of an attention phase is divided. What is computed does not depend on it.
//
// Keys partition by absolute position: units of 64, segments of 128 (a page), super-segments of 1024, spans of 8192.
// Each level merges what the level below has, in ascending order, and the spans merge last. An item computes whole
// segments, super-segments or spans, one or more that follow each other, for a block of query rows and a KV head; if
// there is more than one of them in all, their sums are partial results that the last item of the row block and head
// merges.
//
// Rows of a call are a chain, where each follows the one before it, or a tree. Of a tree several rows, and so several
// keys, can be at a position from call.length on: units with such positions go another way, see attention_tree.cuh.
#pragma once
#include "program.cuh"

#define UNIT_SHIFT 6u
#define SEGMENT_SHIFT 7u
#define SUPER_SHIFT 10u
#define SPAN_SHIFT 13u

// Partial results of a query head, over all rows, while they are not of spans. With them the workspace is bounded by
// max(PARTIAL_LIMIT, rows * spans) for each query head; stheno-kernels' attention module says in how many bytes.
#define PARTIAL_LIMIT 256u
// Segments or super-segments of an item at most: more of them cost more to merge than whole ones of the next level.
#define RUN_LIMIT 6u

// Level pieces are numbered by absolute position, position >> shift.
struct Split {
    u32 rows;          // query rows of a KV head: row of the call * group + query head of the group
    u32 tiles;         // of 16 query rows in a row block
    u32 row_blocks;
    u32 begin, end;    // positions that any row sees
    u32 shift;         // of the pieces
    u32 first, count;  // pieces
    u32 run;           // pieces of an item
    u32 parts;         // items of a row block and head
    u32 items;
    u32 common_end;    // keys at positions before it are the same for all rows: `end` for a chain
    u32 tree_unit;     // the first unit with keys that are not; NONE for a chain
    u32 node_factor;   // see node_of

    // Row of the call that a query row is of: query_row / group, by a product with what all of them are divided by. Exact up to
    // GROUP_LIMIT of stheno-kernels' attention module, as no query row is above 64 group.
    METHOD u32 node_of(u32 query_row) const { return query_row * node_factor >> 24; }
};

DEVICE u32 piece_count(u32 begin, u32 end, u32 shift) { return ((end - 1) >> shift) - (begin >> shift) + 1; }

// Row tiles of a block, `most` at most: those with which the last item is done first. Of an item the rows have to be fetched and
// turned, in time that grows with them, and then each segment takes as long again and a little for each tile. Of equal ones the
// larger, for which K and V are read less often. By a warp, whose lanes take a size each.
DEVICE u32 tiles_of_block(u32 tiles, u32 most, u32 kv_heads, u32 segments) {
    if (most == 1) return 1;
    const u32 size = threadIdx.x % 32 + 1, blocks = divide_up(tiles, size) * kv_heads;
    // Items of a block follow each other where there are more than blocks.
    const u32 turns = divide_up(blocks, gridDim.x), parts = larger(gridDim.x / blocks, 1u);
    const u32 time = turns * (divide_up(segments, parts) * (1 + size) + 2 * size);
    u32 least = size <= most ? time << 5 | (32 - size) : NONE;
#pragma unroll
    for (u32 distance = 16; distance > 0; distance /= 2) least = smaller(least, __shfl_xor_sync(ALL_LANES, least, distance));
    return 32 - least % 32;
}

// Row blocks are of `max_tiles` tiles of rows at most. By a warp, of which all lanes get the same.
DEVICE Split split_of(const Call& call, const AttentionPhase& phase, u32 max_tiles) {
    Split split;
    split.rows = call.rows * phase.group;
    split.node_factor = divide_up(1u << 24, phase.group);
    u32 lowest = NONE, highest = 0;
    // What follows rows of earlier calls is none: they would have been committed.
    bool is_chain = call.base == 0;
#pragma unroll 1
    for (u32 row = call.base + threadIdx.x % 32; row < call.base + call.rows; row += 32) {
        is_chain = is_chain && call.parents[row] == row - 1;
        lowest = smaller(lowest, call.positions[row]);
        highest = larger(highest, call.positions[row]);
    }
    is_chain = __all_sync(ALL_LANES, is_chain);
#pragma unroll
    for (u32 distance = 16; distance > 0; distance /= 2) {
        lowest = smaller(lowest, __shfl_xor_sync(ALL_LANES, lowest, distance));
        highest = larger(highest, __shfl_xor_sync(ALL_LANES, highest, distance));
    }
    split.begin = phase.window && lowest >= phase.window ? lowest - phase.window + 1 : 0;
    split.end = highest + 1;
    split.common_end = is_chain ? split.end : call.length;
    split.tree_unit = is_chain ? NONE : call.length >> UNIT_SHIFT;

    const u32 tiles = divide_up(split.rows, TILE_ROWS);
    const u32 segments = piece_count(split.begin, split.end, SEGMENT_SHIFT);
    const u32 most = tiles_of_block(tiles, smaller(tiles, max_tiles), phase.kv_heads, segments);
    split.tiles = divide_up(tiles, divide_up(tiles, most));
    split.row_blocks = divide_up(tiles, split.tiles);
    const u32 parts = larger(gridDim.x / (split.row_blocks * phase.kv_heads), 1u);
    split.shift = SPAN_SHIFT;
    // Two segments take less time in one item than a merge.
    if (parts > 1 && segments > 2) {
        for (u32 shift = SUPER_SHIFT; shift >= SEGMENT_SHIFT; shift -= SUPER_SHIFT - SEGMENT_SHIFT) {
            const u32 count = piece_count(split.begin, split.end, shift);
            if (count * call.rows <= PARTIAL_LIMIT && divide_up(count, parts) <= RUN_LIMIT) split.shift = shift;
        }
    }
    split.first = split.begin >> split.shift;
    split.count = piece_count(split.begin, split.end, split.shift);
    split.run = divide_up(split.count, parts);
    split.parts = divide_up(split.count, split.run);
    split.items = split.parts * split.row_blocks * phase.kv_heads;
    return split;
}

// Whether a row that sees up to position `last` (-1: nothing), and a window if there is one, sees a position: the key
// there of the sequence or, from call.length on, of its ancestor or itself.
DEVICE bool sees(int last, u32 window, u32 position) {
    // Negative distances are the largest.
    return (u32)last - position < (window == 0 ? 1u << 31 : window);
}
