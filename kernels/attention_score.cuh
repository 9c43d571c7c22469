// One unit of 64 keys: scores, weights, weights times V.
//
// The eight warps share a unit by keys for the scores (eight each) and by channels for the products with V (columns of
// eight, warp w has columns w, w + 8...). In between, largest scores and weights pass through shared memory.
#pragma once
#include "attention_keys.cuh"
#include "attention_sums.cuh"
#include "kv_types.cuh"
#include "matrices.cuh"

template <u32 HEAD_DIM, typename KvType, u32 TILES> struct UnitWork {
    typedef AttentionRoom<HEAD_DIM, TILES> Room;
    static constexpr u32 COLUMNS = (HEAD_DIM / 8 + CONSUMER_WARPS - 1) / CONSUMER_WARPS;  // of a warp at most
    typedef Sums<TILES, COLUMNS> Total;

    u32 tiles;                // of the row block
    u32 halves;               // of tiles, with rows: the last may have none in its second
    PerRow<TILES, int> last = {};  // position that a row sees; -1: it sees nothing
    float scores[TILES][4] = {};  // of the lane's rows with keys 2 (lane % 4) and the next of the warp's eight

    static METHOD u32 warp() { return threadIdx.x / 32; }
    static METHOD u32 lane() { return threadIdx.x % 32; }
    static METHOD bool has_column(u32 column) {
        return HEAD_DIM % 64 == 0 || warp() + column * CONSUMER_WARPS < HEAD_DIM / 8;
    }
    // Where the warps' largest scores of a row begin, in words. Lanes that read those of rows of four tiles meet in no bank, if
    // every second tile begins with the second half.
    static METHOD u32 tops_at(u32 row) { return row * CONSUMER_WARPS ^ row / (2 * TILE_ROWS) * 16; }
    // Where a lane begins to load fragments of 16 rows and 16 elements of a matrix in shared memory.
    static METHOD u32 rows_at(u32 at, u32 pitch) {
        return shared_address(shared_region(0)) + at + lane() % 16 * pitch + lane() / 16 * 16;
    }

    // Scores of a portion of K, if the warp's keys are in it.
    METHOD void score(u32 portion_at, u32 portion) {
        constexpr u32 WARPS = Room::PORTION / 8;
        if (warp() / WARPS != portion) return;
        multiply_keys(scores, 0, portion_at + (warp() % WARPS * 8 + lane() % 8) * Room::PITCH);
    }

    // Products of the queries of COUNT tiles from `first` on with eight keys, whose shared addresses lanes 0 to 7 have, as
    // have the three times eight lanes after them.
    template <u32 COUNT> METHOD void multiply_keys(float (&products)[COUNT][4], u32 first, u32 key) const {
        const u32 keys = key + lane() / 8 * 16;
        const u32 queries = rows_at(Room::QUERIES_AT, Room::PITCH) + first * TILE_ROWS * Room::PITCH;
#pragma unroll
        for (u32 tile = 0; tile < COUNT; tile++)
#pragma unroll
            for (u32 i = 0; i < 4; i++) products[tile][i] = 0.0f;
#pragma unroll
        for (u32 step = 0; step + 1 < HEAD_DIM / 16; step += 2) {
            u32 k[4];
            load_matrices(k, keys + step * 32);
            multiply(products, queries, step, k[0], k[1]);
            multiply(products, queries, step + 1, k[2], k[3]);
        }
        if (HEAD_DIM % 32 != 0) {
            u32 k[2];
            load_matrices(k, keys + (HEAD_DIM / 16 - 1) * 32);
            multiply(products, queries, HEAD_DIM / 16 - 1, k[0], k[1]);
        }
    }

    // Weights of unit `unit` into shared memory, where they are when the next portion is; `total` is what the segment
    // has so far, and gets ready for the unit.
    METHOD void weigh(Total& total, const AttentionPhase& phase, u32 unit) {
        const u32 t = lane() % 4;
        const u32 position = (unit << UNIT_SHIFT) + warp() * 8 + 2 * t;
        float* largest = (float*)(shared_region(0) + Room::LARGEST_AT);
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
            if (tile >= tiles) break;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const int last_seen = last.get(tile, half);
                float* pair = scores[tile] + 2 * half;
                pair[0] = sees(last_seen, phase.window, position) ? __fmul_rn(pair[0], phase.scale) : SEES_NOTHING;
                pair[1] = sees(last_seen, phase.window, position + 1) ? __fmul_rn(pair[1], phase.scale) : SEES_NOTHING;
                float top = top_of(pair[0], pair[1]);
                top = top_of(top, __shfl_xor_sync(ALL_LANES, top, 1));
                top = top_of(top, __shfl_xor_sync(ALL_LANES, top, 2));
                if (t == 0) largest[tops_at(row(tile, half)) + warp()] = top;
            }
        }
        // Orders the warps' largest scores before their reads.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        PerRow<TILES, float> factor, base;
        // Few rows of a single tile leave its second half alone: a step of one token does. Voted on, so that ptxas knows that lanes
        // do not part ways: it would keep a register for where they meet again, in functions of other phases too.
        const bool has_second = TILES > 1 || __any_sync(ALL_LANES, halves > 1);
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            factor.held[half] = 1.0f;
            base.held[half] = 0.0f;
            if (half == 1 && !has_second) break;
            const u32 own = row(PerRow<TILES, float>::tile_of_lane(tiles), half);
            const u32 first = TILES == 1 ? 0 : own / TILE_ROWS % 2 * 4;
            const float* const tops = largest + tops_at(own);
            const float4 a = *(const float4*)(tops + first), b = *(const float4*)(tops + (first ^ 4));
            const float before = total.largest.held[half];
            const float top = top_of(top_of(top_of(a.x, a.y), top_of(a.z, a.w)), top_of(top_of(b.x, b.y), top_of(b.z, b.w)));
            const float now = top_of(before, top);
            // 1 for rows that see nothing of the unit: NaN, if they have seen nothing before either, is passed over.
            factor.held[half] = exact_exp(fminf(__fsub_rn(before, now), 0.0f));
            total.largest.held[half] = now;
            // Any score of such rows is -inf, and less than this.
            base.held[half] = now == SEES_NOTHING ? 0.0f : now;
            total.weight.held[half] = __fmul_rn(total.weight.held[half], factor.held[half]);
        }
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
            if (tile >= tiles) break;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const float from = base.get(tile, half), change = factor.get(tile, half);
#pragma unroll
                for (u32 column = 0; column < COLUMNS; column++)
#pragma unroll
                    for (u32 i = 2 * half; i < 2 * half + 2; i++)
                        total.output[tile][column][i] = __fmul_rn(total.output[tile][column][i], change);
                const float* pair = scores[tile] + 2 * half;
                float low = 0.0f, high = 0.0f;
                if (half == 0 || has_second) {
                    low = exact_exp(__fsub_rn(pair[0], from));
                    high = exact_exp(__fsub_rn(pair[1], from));
                }
                u8* to = shared_region(Room::WEIGHTS_AT) + row(tile, half) * Room::WEIGHT_PITCH + warp() * 16 + t * 4;
                *(u32*)to = KvType::pack(low, high);
            }
        }
    }

    // Weights times a portion of V, and the sum of weights, as they were rounded: weights times ones.
    METHOD void add(Total& total, u32 portion_at, u32 portion) {
        constexpr u32 STEPS = Room::PORTION >= 32 ? 2 : 1;  // of 16 keys at a time
        const u32 weights = rows_at(Room::WEIGHTS_AT, Room::WEIGHT_PITCH) + portion * Room::PORTION * 2;
        const u32 values = portion_at + lane() % (16 * STEPS) * Room::PITCH + warp() * 16;
#pragma unroll
        for (u32 key = 0; key < Room::PORTION; key += 16 * STEPS) {
            u32 v[COLUMNS][2 * STEPS] = {};
#pragma unroll
            for (u32 column = 0; column < COLUMNS; column++)
                if (has_column(column))
                    load_transposed(v[column], values + key * Room::PITCH + column * CONSUMER_WARPS * 16);
#pragma unroll
            for (u32 tile = 0; tile < TILES; tile++) {
                if (tile >= tiles) break;
                const float low = total.weight.get(tile, 0), high = total.weight.get(tile, 1);
                float sums[4] = {low, low, high, high};
#pragma unroll
                for (u32 step = 0; step < STEPS; step++) {
                    u32 p[4];
                    load_matrices(p, weights + tile * TILE_ROWS * Room::WEIGHT_PITCH + (key + 16 * step) * 2);
                    KvType::multiply(sums, p, KvType::ONES, KvType::ONES);
#pragma unroll
                    for (u32 column = 0; column < COLUMNS; column++)
                        if (has_column(column))
                            KvType::multiply(total.output[tile][column], p, v[column][2 * step],
                                             v[column][2 * step + 1]);
                }
                total.weight.set(tile, 0, sums[0]);
                total.weight.set(tile, 1, sums[2]);
            }
        }
    }

    // The row in its block of one of the lane's two rows of a tile.
    static METHOD u32 row(u32 tile, u32 half) { return tile * TILE_ROWS + half * 8 + lane() / 4; }

  private:
    template <u32 COUNT>
    METHOD void multiply(float (&products)[COUNT][4], u32 queries, u32 step, u32 k0, u32 k1) const {
#pragma unroll
        for (u32 tile = 0; tile < COUNT; tile++) {
            if (COUNT > 1 && tile >= tiles) break;
            u32 q[4];
            load_matrices(q, queries + tile * TILE_ROWS * Room::PITCH + step * 32);
            KvType::multiply(products[tile], q, k0, k1);
        }
    }
};
