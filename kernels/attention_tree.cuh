// Units of keys with positions of a tree's rows.
//
// A position from call.length on has a key for each row of the call that is there, so what a row sees is gathered by its
// ancestors: one at each position, none of which moves. To have the bits that it would have in a chain of its ancestors, a
// row's weights stand where those of the chain would, and so do the rows of V that they are multiplied by:
//   - a product of mma is a matter of one query and one key, wherever it stands: queries are multiplied by K of all rows of
//     the call, and what belongs to an ancestor goes to its position;
//   - from there on scores are those of a chain, and largest scores and weights are made of them in the same way;
//   - sums of mma are over 16 positions at a time. Where all of them are before the call, V is common to all rows. Where not,
//     the query heads of a row share V of its ancestors: there is a product for each row of the call, of which the
//     accumulators of its queries are kept.
#pragma once
#include "attention_score.cuh"

// Who is an ancestor of whom, bit a of mask r: row a of r, or r itself. The k-th that is set is at position call.length + k.
DEVICE u64* ancestors_at(u32 at) { return (u64*)shared_region(at); }

// By all consumers; visible after a barrier.
template <u32 HEAD_DIM> DEVICE void find_ancestors(const Shared& shared) {
    u64* const masks = ancestors_at(AttentionRoom<HEAD_DIM, 1>::ANCESTORS_AT);
    const u32 first = threadIdx.x;
    if (first >= shared.call.rows) return;
    u64 mask = 0;
    for (u32 row = first; row != NONE; row = shared.call.parents[row]) mask |= 1ull << row;
    masks[first] = mask;
}

// The row of bit `index` of those that are set.
DEVICE u32 set_bit(u64 mask, u32 index) {
    for (; index > 0; index--) mask &= mask - 1;
    return __ffsll((i64)mask) - 1;
}

template <u32 HEAD_DIM, typename KvType, u32 TILES> struct TreeUnit {
    typedef AttentionRoom<HEAD_DIM, TILES> Room;
    typedef UnitWork<HEAD_DIM, KvType, TILES> Work;
    typedef typename Work::Total Total;
    static constexpr u32 PIECES = HEAD_DIM / 8;  // of 16 bytes in a row
    static constexpr u32 ZEROS = ROW_CAPACITY;   // among the rows at TREE_AT
    static_assert(Room::TREE_ROWS + Room::COMMON <= 256, "rows are told by a byte");

    const Program& program;
    const Shared& shared;
    const Split& split;
    u32 head, first_row, last_row;
    u32 begin;   // position of the unit
    u32 common;  // positions of it before the call

    METHOD TreeUnit(const Program& of_program, const Shared& of_shared, const Split& of_split, u32 of_head, u32 of_first,
                    u32 of_last, u32 unit)
        : program(of_program), shared(of_shared), split(of_split), head(of_head), first_row(of_first), last_row(of_last),
          begin(unit << UNIT_SHIFT) {
        const u32 length = shared.call.length;
        common = length > begin ? smaller(length - begin, 1u << UNIT_SHIFT) : 0;
    }

    // Completes `work.scores`, which has those of the common positions, by those of ancestors.
    METHOD void score(Work& work) const {
        const Call& call = shared.call;
        const u32 rows = call.rows;
        // All reads of the ring before it is overwritten; queries and ancestors, to all.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        if (Room::HOLDS_ALL) copy_common(0);
        load_rows(false);
        // K of the rows, to all.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        const u32 first_key = Work::warp() * 8;
        float products[TILES][4] = {};
        // What follows the last row is not written: the last row takes its place, and nobody has it for an ancestor.
        const u32 key = smaller(first_key + Work::lane() % 8, rows - 1);
        if (first_key < rows)
            work.multiply_keys(products, shared_address(shared_region(Room::TREE_AT)) + key * Room::PITCH);
        const u64* const ancestors = ancestors_at(Room::ANCESTORS_AT);
        u8* const board = shared_region(Room::PRODUCTS_AT) + Work::lane() / 4 * Room::PRODUCT_PITCH;
        const u32 own = first_key + Work::lane() % 4 * 2;  // row of the call, and the next
        const u32 slot = Work::warp() * 8 + Work::lane() % 4 * 2;
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
            if (tile >= work.tiles) break;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const u32 row = first_row + Work::row(tile, half);
                if (row >= last_row) continue;
                const u64 mask = ancestors[row / shared.phase.attention.group];
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    if (own + i >= rows || !(mask >> (own + i) & 1)) continue;
                    const u32 position = call.positions[own + i] - begin;
                    if (position < 1u << UNIT_SHIFT)
                        *(float*)(board + half * 8 * Room::PRODUCT_PITCH + position * 4) = products[tile][2 * half + i];
                }
            }
            // Products at their positions, to all.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const int last = work.last.get(tile, half);
#pragma unroll
                for (u32 i = 0; i < 2; i++)
                    if (slot + i >= common && (int)(begin + slot + i) <= last)
                        work.scores[tile][2 * half + i] =
                            *(const float*)(board + half * 8 * Room::PRODUCT_PITCH + (slot + i) * 4);
            }
            // All reads of them, before those of the next tile.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        }
    }

    // Weights times V, and the sum of weights, as they were rounded.
    METHOD void add(Total& total, u32 tiles) const {
        // All reads of K came before the barrier between scores and weights.
        load_rows(true);
        if (Work::warp() == 0 && Work::lane() < PIECES)
            *(uint4*)(shared_region(Room::TREE_AT) + ZEROS * Room::PITCH + Work::lane() * 16) = make_uint4(0, 0, 0, 0);
        u32 chunk = 0;
#pragma unroll 1
        for (u32 group = 0; group < 4; group++) {
            const u32 first = group * 16;
            // V of the group's common positions, if it has any. A chunk is the last one that is needed until the group
            // after it: what a group has of the call's rows comes last.
            if (group == 0 || (first < common && first == chunk + Room::COMMON)) {
                chunk = first;
                if (group > 0) {
                    // All reads of the chunk before.
                    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
                }
                if (group > 0 || !Room::HOLDS_ALL) copy_common(chunk);
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
            const u32 from = is_common ? Room::TREE_ROWS + first - chunk + Work::lane() % 16 : ZEROS;
            add_group(total, tiles, group, is_common || !is_seen, from, board);
        }
    }

  private:
    METHOD u32 first_node() const { return first_row / shared.phase.attention.group; }

    // K or V of all rows of the call, at TREE_AT. Products of several are asked for before the first is used.
    METHOD void load_rows(bool is_value) const {
        constexpr u32 BATCH = HEAD_DIM <= 64 ? 4 : HEAD_DIM <= 128 ? 2 : 1;
        const u32 rows = shared.call.rows;
#pragma unroll 1
        for (u32 first = Work::warp(); first < rows; first += CONSUMER_WARPS * BATCH) {
            Head<HEAD_DIM> own[BATCH];
#pragma unroll
            for (u32 i = 0; i < BATCH; i++) {
                const u32 row = smaller(first + i * CONSUMER_WARPS, rows - 1);
                load_products(own[i], program, shared, head, row, is_value);
            }
#pragma unroll
            for (u32 i = 0; i < BATCH; i++) {
                const u32 row = first + i * CONSUMER_WARPS;
                if (row >= rows) break;
                if (!is_value) turn_key(own[i], program, shared, row);
                store_head<KvType>(shared_region(Room::TREE_AT) + row * Room::PITCH, own[i]);
            }
        }
    }

    // Begins to copy V of common positions `first` to `first + COMMON - 1` of the unit, as far as there are.
    METHOD void copy_common(u32 first) const {
        const u32 end = smaller(common, first + Room::COMMON);
        if (end > first) {
            const HeadPool pool = head_pool<HEAD_DIM>(program, shared.phase.attention, head);
            const u64 page = load_l2_long(pool.table + (u64)(begin / KV_PAGE) * 8);
            const u64 from = page + pool.offset + pool.value_bytes + (begin + first) % KV_PAGE * HEAD_DIM * 2;
            const u32 to = shared_address(shared_region(Room::TREE_AT)) + Room::TREE_ROWS * Room::PITCH;
#pragma unroll 1
            for (u32 piece = threadIdx.x; piece < (end - first) * PIECES; piece += CONSUMER_THREADS)
                copy_16(to + piece / PIECES * Room::PITCH + piece % PIECES * 16, from + piece * 16);
        }
        commit_copies();
    }

    // Which rows from TREE_AT on are V at the 16 positions from `first` of the unit on, for each of the call's rows that
    // have queries in the block: u8 [row][position 16].
    METHOD void gather(u8* board, u32 first, u32 chunk) const {
        const u64* const ancestors = ancestors_at(Room::ANCESTORS_AT);
        const u32 nodes = (last_row - 1) / shared.phase.attention.group - first_node() + 1;
#pragma unroll 1
        for (u32 task = threadIdx.x; task < nodes * 16; task += CONSUMER_THREADS) {
            const u32 node = first_node() + task / 16, position = first + task % 16;
            u32 from = ZEROS;
            if (position < common) {
                from = Room::TREE_ROWS + position - chunk;
            } else if (begin + position <= shared.call.positions[node]) {
                from = set_bit(ancestors[node], begin + position - shared.call.length);
            }
            board[task] = (u8)from;
        }
    }

    // Adds 16 positions, whose V is the same for all queries, in rows from TREE_AT on of which lanes l and l + 16 have the
    // l-th; or differs, and is in those that `gather` has put on the board.
    METHOD void add_group(Total& total, u32 tiles, u32 group, bool is_same, u32 same_from, const u8* board) const {
        const u32 heads = shared.phase.attention.group;
        const u32 weights = Work::rows_at(Room::WEIGHTS_AT, Room::WEIGHT_PITCH) + group * 32;
        const u32 values = shared_address(shared_region(Room::TREE_AT)) + Work::warp() * 16;
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
            if (tile >= tiles) break;
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
                node = first / heads;
                last_node = (smaller(first + TILE_ROWS, last_row) - 1) / heads;
            }
            float before[Work::COLUMNS][4];
#pragma unroll
            for (u32 column = 0; column < Work::COLUMNS; column++)
#pragma unroll
                for (u32 i = 0; i < 4; i++) before[column][i] = total.output[tile][column][i];
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
                        if (is_own[i / 2]) total.output[tile][column][i] = sum[i];
                }
            }
        }
    }
};
