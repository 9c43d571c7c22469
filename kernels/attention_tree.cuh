// Units of keys with positions of a tree's rows.
//
// A position from call.length on may have several keys, of which each row of the call sees one: its ancestor's. To have
// the bits that it would have in a chain of its ancestors, a row's weights stand where those of the chain would, and so
// do the rows of V that they are multiplied by:
//   - a product of mma is a matter of one query and one key, wherever it stands: queries are multiplied by K of all
//     rows of the call, and what belongs to an ancestor goes to its position;
//   - from there on scores are those of a chain, and largest scores and weights are made of them in the same way;
//   - sums of mma are over 16 positions at a time. Where all of these are before the call, V is common to all rows.
//     Where not, V of its ancestors is gathered for each row of the call, whose query heads share it: of the product
//     the accumulators of its own queries are kept.
#pragma once
#include "attention_score.cuh"

// u64 [row of the tree]: bit a says that row a is an ancestor of the row, or the row. The k-th that is set is at
// position call.length + k. Rows of the tree are those of earlier calls, then the call's.
template <u32 HEAD_DIM> DEVICE u64* ancestors() {
    return (u64*)shared_region(AttentionRoom<HEAD_DIM, 1>::ANCESTORS_AT);
}

DEVICE u32 tree_rows(const Call& call) { return call.base + call.rows; }

// By all consumers; visible after a barrier.
template <u32 HEAD_DIM> DEVICE void find_ancestors(const Shared& shared) {
    if (threadIdx.x >= tree_rows(shared.call)) return;
    u64 mask = 0;
#pragma unroll 1
    for (u32 row = threadIdx.x; row != NONE; row = shared.call.parents[row]) mask |= 1ull << row;
    ancestors<HEAD_DIM>()[threadIdx.x] = mask;
}

// The row of bit `index` of those that are set.
DEVICE u32 set_bit(u64 mask, u32 index) {
#pragma unroll 1
    for (; index > 0; index--) mask &= mask - 1;
    return __ffsll((i64)mask) - 1;
}

template <u32 HEAD_DIM, typename KvType, u32 TILES> struct TreeUnit {
    typedef AttentionRoom<HEAD_DIM, TILES> Room;
    typedef UnitWork<HEAD_DIM, KvType, TILES> Work;
    typedef typename Work::Total Total;
    static constexpr u32 PIECES = HEAD_DIM / 8;  // of 16 bytes in a row
    static constexpr u32 ZEROS = ROW_CAPACITY;   // among the rows at VALUES_AT
    static_assert(Room::OWN_VALUES + Room::COMMON <= 256, "rows are told by a byte");

    const Program& program;
    const Shared& shared;
    const Split& split;
    u32 head, first_row, last_row;
    u32 begin;   // position of the unit
    u32 common;  // positions of it before the call

    METHOD TreeUnit(const Program& of_program, const Shared& of_shared, const Split& of_split, u32 of_head,
                    u32 of_first, u32 of_last, u32 unit)
        : program(of_program), shared(of_shared), split(of_split), head(of_head), first_row(of_first),
          last_row(of_last), begin(unit << UNIT_SHIFT) {
        const u32 length = shared.call.length;
        common = length > begin ? smaller(length - begin, 1u << UNIT_SHIFT) : 0;
    }

    // Completes `work.scores`, which has those of the common positions, by those of ancestors. `page` is that of the
    // unit, if it has common positions.
    METHOD void score(Work& work, u64 page) const {
        const Call& call = shared.call;
        const u32 rows = tree_rows(call);
        // All reads of the ring before it is overwritten; queries and ancestors, to all.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        if (Room::HOLDS_COMMON) copy_common(page, 0);
        place_tree<HEAD_DIM, KvType>(program, shared, head, Room::KEYS_AT, Room::HOLDS_VALUES ? Room::VALUES_AT : NONE);
        // K of the rows, to all.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        const u32 first_key = Work::warp() * 8;
        // What follows the last row is not written: the last row takes its place, and nobody has it for an ancestor.
        const u32 key = smaller(first_key + Work::lane() % 8, rows - 1);
        u8* const board = shared_region(Room::PRODUCTS_AT) + Work::lane() / 4 * Room::PRODUCT_PITCH;
        const u32 own = first_key + Work::lane() % 4 * 2;  // row of the call, and the next
        const u32 slot = Work::warp() * 8 + Work::lane() % 4 * 2;
        // A loop, here and below: few units are of a tree, and the code of four tiles takes long to compile.
#pragma unroll 1
        for (u32 tile = 0; tile < work.tiles; tile++) {
            float products[1][4] = {};
            if (first_key < rows)
                work.multiply_keys(products, tile, shared_address(shared_region(Room::KEYS_AT)) + key * Room::PITCH);
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const u32 row = first_row + Work::row(tile, half);
                if (row >= last_row) continue;
                const u64 mask = ancestors<HEAD_DIM>()[call.base + split.node_of(row)];
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    if (own + i >= rows || !(mask >> (own + i) & 1)) continue;
                    const u32 position = call.positions[own + i] - begin;
                    if (position < 1u << UNIT_SHIFT) product_at(board, half, position) = products[0][2 * half + i];
                }
            }
            // Products at their positions, to all.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const int last = work.last.get(tile, half);
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    if (slot + i < common || (int)(begin + slot + i) > last) continue;
                    const float product = product_at(board, half, slot + i);
#pragma unroll
                    for (u32 of = 0; of < TILES; of++)
                        if (of == tile) work.scores[of][2 * half + i] = product;
                }
            }
            // All reads of them, before those of the next tile.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        }
    }

    // Weights times V, and the sum of weights, as they were rounded.
    METHOD void add(Total& total, u32 tiles, u64 page) const {
        // All reads of K came before the barrier between scores and weights.
        if (!Room::HOLDS_VALUES) place_tree<HEAD_DIM, KvType>(program, shared, head, NONE, Room::VALUES_AT);
        u8* const zeros = shared_region(Room::VALUES_AT) + ZEROS * Room::PITCH;
        if (threadIdx.x < PIECES) *(uint4*)(zeros + threadIdx.x * 16) = make_uint4(0, 0, 0, 0);
        u32 chunk = 0;
#pragma unroll 1
        for (u32 group = 0; group < 4; group++) {
            const u32 first = group * 16;
            // V of the group's common positions, if they are not there. The last ones stay, for the first group that
            // has both.
            if (group == 0 || (first < common && first == chunk + Room::COMMON)) {
                chunk = first;
                if (group > 0) {
                    // All reads of the chunk before.
                    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
                }
                if (group > 0 || !Room::HOLDS_COMMON) copy_common(page, chunk);
                wait_copies<0>();
                // The chunk, and with the first one V of the rows, zeros and weights, to all.
                barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
            }
            const bool is_common = first + 16 <= common;
            // Groups up to the end of the unit count, as in a chain: those that nobody sees by zeros.
            const bool is_seen = begin + first < split.end;
            // Two in turn, so that one barrier is enough.
            u8* const board = shared_region(Room::LARGEST_AT) + group % 2 * TILES * TILE_ROWS * 16;
            if (!is_common && is_seen) {
                gather(board, first, chunk);
                // The rows to gather, to all.
                barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
            }
            const u32 from = is_common ? Room::OWN_VALUES + first - chunk + Work::lane() % 16 : ZEROS;
            add_group(total, tiles, group, is_common || !is_seen, from, board);
        }
    }

  private:
    // Of the lane's row of a tile, at a position of the unit.
    static METHOD float& product_at(u8* board, u32 half, u32 position) {
        return *(float*)(board + half * 8 * Room::PRODUCT_PITCH + position * 4);
    }

    METHOD u32 first_node() const { return split.node_of(first_row); }

    // Begins to copy V of common positions `first` to `first + COMMON - 1` of the unit, as far as there are.
    METHOD void copy_common(u64 page, u32 first) const {
        const u32 end = smaller(common, first + Room::COMMON);
        if (end > first) {
            const HeadPool pool = head_pool<HEAD_DIM>(program, shared.phase.attention, head);
            const u64 from = page + pool.offset + pool.value_bytes + (begin + first) % KV_PAGE * HEAD_DIM * 2;
            const u32 to = shared_address(shared_region(Room::VALUES_AT)) + Room::OWN_VALUES * Room::PITCH;
#pragma unroll 1
            for (u32 piece = threadIdx.x; piece < (end - first) * PIECES; piece += CONSUMER_THREADS)
                copy_16(to + piece / PIECES * Room::PITCH + piece % PIECES * 16, from + piece * 16);
        }
        commit_copies();
    }

    // Which rows from VALUES_AT on are V at the 16 positions from `first` of the unit on, for each of the call's rows
    // that have queries in the block: u8 [row][position 16].
    METHOD void gather(u8* board, u32 first, u32 chunk) const {
        const u32 nodes = split.node_of(last_row - 1) - first_node() + 1;
#pragma unroll 1
        for (u32 task = threadIdx.x; task < nodes * 16; task += CONSUMER_THREADS) {
            const u32 node = first_node() + task / 16, position = first + task % 16;
            u32 from = ZEROS;
            if (position < common) {
                from = Room::OWN_VALUES + position - chunk;
            } else if (begin + position <= shared.call.positions[shared.call.base + node]) {
                from = set_bit(ancestors<HEAD_DIM>()[shared.call.base + node], begin + position - shared.call.length);
            }
            board[task] = (u8)from;
        }
    }

    // Adds 16 positions, whose V is the same for all queries, in rows from VALUES_AT on of which lanes l and l + 16
    // have the l-th; or differs, and is in those that `gather` has put on the board.
    METHOD void add_group(Total& total, u32 tiles, u32 group, bool is_same, u32 same_from, const u8* board) const {
        const u32 heads = shared.phase.attention.group;
        const u32 weights = Work::rows_at(Room::WEIGHTS_AT, Room::WEIGHT_PITCH) + group * 32;
        const u32 values = shared_address(shared_region(Room::VALUES_AT)) + Work::warp() * 16;
#pragma unroll 1
        for (u32 tile = 0; tile < tiles; tile++) {
            u32 p[4];
            load_matrices(p, weights + tile * TILE_ROWS * Room::WEIGHT_PITCH);
            const float low = total.weight.get(tile, 0), high = total.weight.get(tile, 1);
            float sums[4] = {low, low, high, high};
            KvType::multiply(sums, p, KvType::ONES, KvType::ONES);
            total.weight.set(tile, 0, sums[0]);
            total.weight.set(tile, 1, sums[2]);

            const u32 first = first_row + tile * TILE_ROWS;
            u32 node = 0, last_node = 0;
            if (!is_same) {
                node = split.node_of(first);
                last_node = split.node_of(smaller(first + TILE_ROWS, last_row) - 1);
            }
            float before[Work::COLUMNS][4], after[Work::COLUMNS][4];
            total.load_tile(before, tile);
            total.load_tile(after, tile);
#pragma unroll 1
            for (; node <= last_node; node++) {
                u32 from = same_from;
                bool is_own[2] = {true, true};
                if (!is_same) {
                    from = board[(node - first_node()) * 16 + Work::lane() % 16];
                    // Queries of the node are those from node * heads on.
                    is_own[0] = first_row + Work::row(tile, 0) - node * heads < heads;
                    is_own[1] = first_row + Work::row(tile, 1) - node * heads < heads;
                }
#pragma unroll
                for (u32 column = 0; column < Work::COLUMNS; column++) {
                    if (!Work::has_column(column)) continue;
                    u32 v[2];
                    load_transposed(v, values + from * Room::PITCH + column * CONSUMER_WARPS * 16);
                    float sum[4] = {before[column][0], before[column][1], before[column][2], before[column][3]};
                    KvType::multiply(sum, p, v[0], v[1]);
#pragma unroll
                    for (u32 i = 0; i < 4; i++)
                        if (is_own[i / 2]) after[column][i] = sum[i];
                }
            }
            total.store_tile(tile, after);
        }
    }
};
