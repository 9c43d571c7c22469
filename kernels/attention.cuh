// The attention phase: softmax of scaled scores over the positions that a row sees, times V, after norm and rotation of
// Q and K; K and V of the rows are appended to the pool.
//
// Rows are a chain, or a tree by call.parents: a row sees the positions before the call, its ancestors and itself, at
// most a window of them. K and V of row i go to the place of position call.length + i; Q and K are rotated by
// call.positions.
//
// Bits of a row of the output depend on the row, on what it sees and on absolute positions only, not on other rows of
// the call, whether it is a tree, the grid, the room in shared memory or the order of blocks:
//   - scores are sums of mma over head_dim, ascending, times the scale;
//   - within a segment of 128 positions, units of 64 follow with a running largest score; weights are rounded to the
//     type of K and V, and their sums are sums of mma as well, where what a row does not see has weight zero;
//   - segments merge in super-segments of 1024, those in spans of 8192, those at last, always in ascending order.
//
// Workspace: counters u32 [1 + row blocks][kv heads], zero between phases; partials see attention_merge.cuh. How large
// they are is said in stheno-kernels' attention module. Rows of the output from call.rows on are left as they are;
// columns after the last head become 0.
#pragma once
#include "attention_merge.cuh"
#include "attention_tree.cuh"
#include "edges.cuh"

// Row tiles of a block at most: what fits in registers, and in shared memory beside a stream of K and V.
template <u32 HEAD_DIM> DEVICE constexpr u32 attention_tiles() {
    if (HEAD_DIM <= 64 && AttentionRoom<HEAD_DIM, 4>::IS_ENOUGH) return 4;
    if (HEAD_DIM <= 128 && AttentionRoom<HEAD_DIM, 3>::IS_ENOUGH) return 3;
    return HEAD_DIM <= 192 && AttentionRoom<HEAD_DIM, 2>::IS_ENOUGH ? 2 : 1;
}

template <u32 HEAD_DIM, typename KvType, u32 TILES> struct AttentionItem {
    typedef AttentionRoom<HEAD_DIM, TILES> Room;
    typedef UnitWork<HEAD_DIM, KvType, TILES> Work;
    typedef typename Work::Total Total;
    static_assert(HEAD_DIM % 16 == 0 && HEAD_DIM <= 256 && Room::IS_ENOUGH, "attention");

    const Program& program;
    Shared& shared;
    const Split& split;
    u32 head;
    u32 row_block, first_row, last_row;  // query rows first_row to last_row - 1
    u32 part;

    METHOD AttentionItem(const Program& of_program, Shared& of_shared, const Split& of_split, u32 item)
        : program(of_program), shared(of_shared), split(of_split) {
        head = item % phase().kv_heads;
        row_block = item / phase().kv_heads % split.row_blocks;
        part = item / phase().kv_heads / split.row_blocks;
        first_row = row_block * split.tiles * TILE_ROWS;
        last_row = smaller(first_row + split.tiles * TILE_ROWS, split.rows);
    }

    // `is_first`: of the block's items.
    METHOD void run(bool is_first) {
        const u32 first_piece = part * split.run;
        const u32 end_piece = smaller(first_piece + split.run, split.count);
        const u32 shift = split.shift - UNIT_SHIFT;
        const u32 first_unit = larger((split.first + first_piece) << shift, split.begin >> UNIT_SHIFT);
        const u32 end_unit = smaller((split.first + end_piece) << shift, ((split.end - 1) >> UNIT_SHIFT) + 1);
        KeyStream<HEAD_DIM, KvType, TILES> keys;
        keys.open(program, shared, split, head, first_unit, end_unit);
        if (is_first) wait_edge(program, shared.phase, shared.call.run);
        keys.start(program, shared, split);
        // Visible after the stream's next barrier.
        place_queries<HEAD_DIM, KvType>(program, shared, split, head, first_row, last_row);
        // Each row once: by the items of the head in turn.
        const u32 items = split.parts * split.row_blocks;
        append<HEAD_DIM, KvType>(program, shared, head, part * split.row_blocks + row_block, items);
        if (end_unit > split.tree_unit) find_ancestors<HEAD_DIM>(shared);

        Work work;
        work.tiles = TILES == 1 ? 1 : divide_up(last_row - first_row, TILE_ROWS);
        work.halves = divide_up(last_row - first_row, TILE_ROWS / 2);
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++)
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const u32 row = first_row + Work::row(tile, half);
                const bool exists = row < last_row;
                work.last.set(tile, half, exists ? (int)shared.call.positions[shared.call.base + split.node_of(row)] : -1);
            }
        Total segment, super;
        segment.clear();
        super.clear();
#pragma unroll 1
        for (u32 unit = first_unit; unit < end_unit; unit++) {
            const TreeUnit<HEAD_DIM, KvType, TILES> tree(program, shared, split, head, first_row, last_row, unit);
            const bool is_tree = unit >= split.tree_unit;
            const u32 number = unit * 2 * Room::PORTIONS;
            const u32 of_keys = is_tree ? divide_up(tree.common, Room::PORTION) : Room::PORTIONS;
            // One loop for K and V, so that the stream's code is there once.
#pragma unroll 1
            for (u32 i = 0; i < 2 * Room::PORTIONS; i++) {
                if (i == of_keys) {
                    if (is_tree) tree.score(work, keys.last_page());
                    work.weigh(segment, phase(), unit);
                    if (is_tree) {
                        tree.add(segment, work.tiles, keys.last_page());
                        break;
                    }
                }
                const u32 portion_at = keys.next(program, shared, split, number + i);
                if (i < Room::PORTIONS) {
                    work.score(portion_at, i);
                } else {
                    work.add(segment, portion_at, i - Room::PORTIONS);
                }
            }

            const u32 end = (unit + 1) << UNIT_SHIFT;
            const bool is_last = unit + 1 == end_unit;
            if (!is_last && end % (1u << SEGMENT_SHIFT) != 0) continue;
            const u32 piece = (unit >> (split.shift - UNIT_SHIFT)) - split.first;
            bool is_whole = true;  // the piece
            if (split.shift > SEGMENT_SHIFT) {
                const bool ends_super = is_last || end % (1u << SUPER_SHIFT) == 0;
                bool joins = false;  // the super-segment, those of its span before it
                if (split.shift > SUPER_SHIFT) {
                    const u32 first = larger((split.first + piece) << (SPAN_SHIFT - UNIT_SHIFT), first_unit);
                    joins = unit >> (SUPER_SHIFT - UNIT_SHIFT) != first >> (SUPER_SHIFT - UNIT_SHIFT);
                    is_whole = is_last || end % (1u << SPAN_SHIFT) == 0;
                }
                // A loop, so that the merge is there once.
#pragma unroll 1
                for (;;) {
                    super.merge(segment, work.tiles);
                    segment.clear();
                    if (!ends_super) break;
                    segment = super;
                    super.clear();
                    if (!joins) break;
                    load_span(super, piece);
                    joins = false;
                }
                if (!ends_super) continue;
            }
            if (is_whole && split.count == 1) {
                write_output(segment);
            } else {
                write_partial(segment, piece);
            }
            segment.clear();
        }
        finish();
    }

  private:
    METHOD const AttentionPhase& phase() const { return shared.phase.attention; }

    METHOD void write_output(const Total& total) {
        const PerRow<TILES, float> factors = {{normaliser(total.weight.held[0]), normaliser(total.weight.held[1])}};
#pragma unroll 1
        for (u32 tile = 0; tile < tiles(); tile++) {
            float sums[Work::COLUMNS][4];
            total.load_tile(sums, tile);
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const u32 row = first_row + Work::row(tile, half);
                const float factor = factors.get(tile, half);
                if (row >= last_row) continue;
#pragma unroll
                for (u32 column = 0; column < Work::COLUMNS; column++) {
                    if (!Work::has_column(column)) continue;
                    const float* pair = sums[column] + 2 * half;
                    store_word(output_address<HEAD_DIM>(program, shared, split, head, row, channel(column)),
                               pack_bf16(__fmul_rn(pair[0], factor), __fmul_rn(pair[1], factor)));
                }
            }
        }
    }

    // The sums that a span has so far, into `before`, which is clear. They wait in its partial result, which takes no
    // registers and is read and written once in 1024 positions.
    METHOD void load_span(Total& before, u32 piece) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = own_row(half);
            if (row >= last_row) continue;
            const u64 from = partial_of(piece, row) + HEAD_DIM * 4;
            before.weight.held[half] = load_l2_float(from);
            before.largest.held[half] = load_l2_float(from + 4);
        }
#pragma unroll 1
        for (u32 tile = 0; tile < tiles(); tile++) {
            float sums[Work::COLUMNS][4] = {};
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const u32 row = first_row + Work::row(tile, half);
                if (row >= last_row) continue;
#pragma unroll
                for (u32 column = 0; column < Work::COLUMNS; column++) {
                    if (!Work::has_column(column)) continue;
                    const u64 from = partial_of(piece, row) + channel(column) * 4;
                    sums[column][2 * half] = load_l2_float(from);
                    sums[column][2 * half + 1] = load_l2_float(from + 4);
                }
            }
            before.store_tile(tile, sums);
        }
        // The first warp overwrites what all warps have read of a row's weight and largest score.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    }

    METHOD void write_partial(const Total& total, u32 piece) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = own_row(half);
            if (threadIdx.x >= 32 || row >= last_row || (TILES == 1 && threadIdx.x % 4 != 0)) continue;
            *(float4*)(partial_of(piece, row) + HEAD_DIM * 4) =
                make_float4(total.weight.held[half], total.largest.held[half], 0.0f, 0.0f);
        }
#pragma unroll 1
        for (u32 tile = 0; tile < tiles(); tile++) {
            float sums[Work::COLUMNS][4];
            total.load_tile(sums, tile);
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const u32 row = first_row + Work::row(tile, half);
                if (row >= last_row) continue;
#pragma unroll
                for (u32 column = 0; column < Work::COLUMNS; column++) {
                    if (!Work::has_column(column)) continue;
                    const float* pair = sums[column] + 2 * half;
                    *(float2*)(partial_of(piece, row) + channel(column) * 4) = make_float2(pair[0], pair[1]);
                }
            }
        }
    }

    METHOD u64 partial_of(u32 piece, u32 row) const {
        return partial_address<HEAD_DIM>(program, phase(), split, head, piece, row);
    }

    METHOD u32 tiles() const { return TILES == 1 ? 1 : split.tiles; }

    // Query row whose values the lane keeps; past the last if others keep them already. Of one tile all four lanes have them.
    METHOD u32 own_row(u32 half) const {
        const u32 tile = TILES == 1 ? 0 : threadIdx.x % 4;
        return tile < TILES ? first_row + Work::row(tile, half) : NONE;
    }

    // First of the lane's two channels in a column.
    static METHOD u32 channel(u32 column) {
        return (Work::warp() + column * CONSUMER_WARPS) * 8 + Work::lane() % 4 * 2;
    }

    // Columns after the last head, of rows whose last query head is in the row block.
    METHOD void clear_padding() {
        const u32 columns = phase().kv_heads * phase().group * HEAD_DIM;
        const u32 pieces = (phase().output_slices * SLICE - columns) / 8;
        if (head + 1 != phase().kv_heads || pieces == 0) return;
#pragma unroll 1
        for (u32 task = threadIdx.x; task < (last_row - first_row) * pieces; task += CONSUMER_THREADS) {
            const u32 row = first_row + task / pieces;
            if (split.node_of(row + 1) * phase().group != row + 1) continue;
            const u64 to = output_address<HEAD_DIM>(program, shared, split, head, row, HEAD_DIM + task % pieces * 8);
            *(uint4*)to = make_uint4(0, 0, 0, 0);
        }
    }

    // Counts the item; the last of the row block and head makes the output, if it is not there yet, and the last of the
    // head arrives at the edge.
    METHOD void finish() {
        const u64 of_head = program.workspace + phase().counters + head * 4;
        const u64 of_block = of_head + (u64)(1 + row_block) * phase().kv_heads * 4;
        if (split.count > 1) {
            // Orders all writes of the block before thread 0's release.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
            if (threadIdx.x == 0) shared.words[0] = count(of_block, split.parts);
            // Orders thread 0's acquire, and its word, before the reads of the others.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
            if (!shared.words[0]) return;
            merge_partials<HEAD_DIM>(program, shared, split, head, first_row, last_row);
        }
        clear_padding();
        // As above: the block's writes before the release.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        if (threadIdx.x == 0 && count(of_head, split.row_blocks) && shared.phase.edge_out != NONE)
            red_release(program.edges + (u64)shared.phase.edge_out * EDGE_STRIDE, 1);
    }

    // Whether this is the last of `wanted` to count; the counter is 0 again then, before the edge says that the phase
    // is over.
    METHOD bool count(u64 counter, u32 wanted) {
        if (wanted == 1) return true;
        if (add_acq_rel(counter, 1) + 1 != wanted) return false;
        store_word(counter, 0);
        return true;
    }
};

// In shared memory, as it is the same for all threads and registers are scarce.
template <u32 HEAD_DIM> DEVICE Split& split_place() {
    return *(Split*)(shared_region(0) + AttentionRoom<HEAD_DIM, 1>::SPLIT_AT);
}

template <u32 HEAD_DIM, typename KvType, u32 TILES>
DEVICE_CALL void attention_items(const Program& program, Shared& shared) {
    const Split& split = split_place<HEAD_DIM>();
#pragma unroll 1
    for (u32 item = blockIdx.x; item < split.items; item += gridDim.x)
        AttentionItem<HEAD_DIM, KvType, TILES>(program, shared, split, item).run(item == blockIdx.x);
}

// By all consumers of a block; KvType is KvBf16 or KvF16. Waits for the phase's edge, if the block has items, after what does not
// depend on it. Arrives by itself: the edge gets kv_heads arrivals in a run.
template <u32 HEAD_DIM, typename KvType> DEVICE void attention(const Program& program, Shared& shared) {
    Split& split = split_place<HEAD_DIM>();
    if (threadIdx.x < 32) {
        const Split own = split_of(shared.call, shared.phase.attention, attention_tiles<HEAD_DIM>());
        if (threadIdx.x == 0) split = own;
    }
    // Orders thread 0's stores before the reads of the others.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (split.tiles == 1) {
        attention_items<HEAD_DIM, KvType, 1>(program, shared);
    } else {
        attention_items<HEAD_DIM, KvType, attention_tiles<HEAD_DIM>()>(program, shared);
    }
}
