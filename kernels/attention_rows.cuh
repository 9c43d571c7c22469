// Q, K and V of the call's own rows: from the products of QKV, normed and rotated, to where attention or a later call
// reads them. A warp does one head of one row.
//
// All of it but what a few lines do is a call: it does not depend on how many row tiles a block has, so that one copy of
// the code serves all, and its registers are not taken from the sums.
#pragma once
#include "attention_room.cuh"
#include "rope.cuh"
#include "sync.cuh"

// K and V of a KV head in a page: [K, V][position 128][HEAD_DIM], the two apart by a stride.
struct HeadPool {
    u64 offset;       // in a page
    u64 value_bytes;
    u64 table;        // u64 [page of the sequence]
};

template <u32 HEAD_DIM> DEVICE HeadPool head_pool(const Program& program, const AttentionPhase& phase, u32 head) {
    const KvPool& pool = program.kv[phase.kv];
    const u64 head_bytes = KV_PAGE * HEAD_DIM * 2;
    return {phase.layer * pool.layer_bytes + head * head_bytes, phase.kv_heads * head_bytes, pool.table};
}

// Cosines and sines of a row's position.
DEVICE u64 rotation_address(const Program& program, const Shared& shared, u32 row) {
    const AttentionPhase& phase = shared.phase.attention;
    return program.constants + phase.rope + (u64)shared.call.positions[shared.call.base + row] * phase.rope_pairs * 8;
}

// Products of a row of the call, of which K or V becomes.
template <u32 HEAD_DIM>
DEVICE void load_products(Head<HEAD_DIM>& own, const Program& program, const Shared& shared, u32 head, u32 row,
                          bool is_value) {
    const AttentionPhase& phase = shared.phase.attention;
    const u32 first = (phase.group + is_value) * phase.kv_heads + head;  // in heads, after those of q
    const u64 from = program.workspace + phase.qkv + ((u64)row * phase.qkv_columns + first * HEAD_DIM) * 4;
    load_head(own, from);
}

// Q or K of products of a row: normed, by weights at `norm` of the constants if that is not NONE, and rotated.
template <u32 HEAD_DIM>
DEVICE_CALL Head<HEAD_DIM> turned(Head<HEAD_DIM> head, const Program& program, const Shared& shared, u32 row, u32 norm,
                                  float eps) {
    if (norm != NONE) norm_head(head, program.constants + norm, eps);
    rotate_head(head, rotation_address(program, shared, row), shared.phase.attention.rope_pairs);
    return head;
}

// K of them.
template <u32 HEAD_DIM>
DEVICE void turn_key(Head<HEAD_DIM>& own, const Program& program, const Shared& shared, u32 row) {
    const AttentionPhase& phase = shared.phase.attention;
    own = turned(own, program, shared, row, phase.k_norm, phase.k_eps);
}

// K or V of a row of the call.
template <u32 HEAD_DIM>
DEVICE void load_own(Head<HEAD_DIM>& own, const Program& program, const Shared& shared, u32 head, u32 row,
                     bool is_value) {
    load_products(own, program, shared, head, row, is_value);
    if (!is_value) turn_key(own, program, shared, row);
}

// K or V at positions first + old to first + count - 1, to their places in `slot`, [position `count`][HEAD_DIM]: of a chain's rows
// before position `end`, then zeros. K and V begin with different warps.
template <u32 HEAD_DIM, typename KvType>
DEVICE_CALL void place_rows(const Program& program, const Shared& shared, u8* slot, u32 first, u32 old, u32 count, u32 end,
                            u32 head, bool is_value) {
    const u32 turn = (2 * CONSUMER_WARPS - 1 - is_value - threadIdx.x / 32) % CONSUMER_WARPS;
    const u32 lane = threadIdx.x % 32;
#pragma unroll 1
    for (u32 i = old + turn; i < count; i += CONSUMER_WARPS) {
        u8* to = slot + i * head_pitch<HEAD_DIM>();
        if (first + i < end) {
            Head<HEAD_DIM> own;
            load_own(own, program, shared, head, first + i - shared.call.length, is_value);
            store_head<KvType>(to, own);
        } else if (lane < HEAD_DIM / 8) {
            *(uint4*)(to + lane * 16) = make_uint4(0, 0, 0, 0);
        }
    }
}

// Appends K and V of the call's rows `first`, `first + step`... to the pool: row i in the place of position length + base + i,
// which is the position of a chain's row; rows of a tree are moved to theirs when it is known which stay (commit.cuh).
// Their warps are others than those that have most to do for the stream and the queries of a single row.
template <u32 HEAD_DIM, typename KvType>
DEVICE_CALL void append(const Program& program, const Shared& shared, u32 head, u32 first, u32 step) {
    const HeadPool pool = head_pool<HEAD_DIM>(program, shared.phase.attention, head);
    const u32 turn = (CONSUMER_WARPS + 5 - threadIdx.x / 32) % CONSUMER_WARPS;
#pragma unroll 1
    for (u32 task = turn;; task += CONSUMER_WARPS) {
        const u32 row = first + task / 2 * step;
        if (row >= shared.call.rows) break;
        const bool is_value = task % 2;
        const u32 place = shared.call.length + shared.call.base + row;
        const u64 page = load_l2_long(pool.table + (u64)(place / KV_PAGE) * 8);
        Head<HEAD_DIM> own;
        load_own(own, program, shared, head, row, is_value);
        const u64 to = page + pool.offset + is_value * pool.value_bytes + place % KV_PAGE * HEAD_DIM * 2;
        store_head<KvType>((u8*)to, own);
    }
}

// Products of query row `query_row` of a KV head, if it is before `last_row`; 0 if not.
template <u32 HEAD_DIM>
DEVICE Head<HEAD_DIM> load_query(const Program& program, const Shared& shared, const Split& split, u32 head, u32 query_row,
                                 u32 last_row) {
    const AttentionPhase& phase = shared.phase.attention;
    Head<HEAD_DIM> query = {};
    if (query_row >= last_row) return query;
    const u32 row = split.node_of(query_row);
    const u32 column = (head * phase.group + query_row - row * phase.group) * HEAD_DIM;
    load_head(query, program.workspace + phase.qkv + ((u64)row * phase.qkv_columns + column) * 4);
    return query;
}

// Query rows first_row to last_row - 1 of a KV head to shared memory at QUERIES_AT, and zeros up to whole tiles. A warp has
// asked for its next row before it turns one.
template <u32 HEAD_DIM, typename KvType>
DEVICE_CALL void place_queries(const Program& program, const Shared& shared, const Split& split, u32 head, u32 first_row,
                               u32 last_row) {
    const AttentionPhase& phase = shared.phase.attention;
    const u32 end = first_row + divide_up(last_row - first_row, TILE_ROWS) * TILE_ROWS;
    u32 query_row = first_row + threadIdx.x / 32;
    u8* to = shared_region(AttentionRoom<HEAD_DIM, 1>::QUERIES_AT) + threadIdx.x / 32 * head_pitch<HEAD_DIM>();
    Head<HEAD_DIM> upcoming = load_query<HEAD_DIM>(program, shared, split, head, query_row, last_row);
#pragma unroll 1
    for (; query_row < end; query_row += CONSUMER_WARPS, to += CONSUMER_WARPS * head_pitch<HEAD_DIM>()) {
        const Head<HEAD_DIM> query = upcoming;
        upcoming = load_query<HEAD_DIM>(program, shared, split, head, query_row + CONSUMER_WARPS, last_row);
        if (query_row < last_row) {
            store_head<KvType>(to, turned(query, program, shared, split.node_of(query_row), phase.q_norm, phase.q_eps));
        } else if (threadIdx.x % 32 < HEAD_DIM / 8) {
            *(uint4*)(to + threadIdx.x % 32 * 16) = make_uint4(0, 0, 0, 0);
        }
    }
}

// K of all rows of a tree to shared memory from `keys_at` on, in the order of rows, and V from `values_at` on; NONE: not that.
// Products of several rows are asked for before the first is used; rows of earlier calls come from the pool, where those
// left them.
template <u32 HEAD_DIM, typename KvType>
DEVICE_CALL void place_tree(const Program& program, const Shared& shared, u32 head, u32 keys_at, u32 values_at) {
    constexpr u32 BATCH = HEAD_DIM <= 128 ? 4 : 2, PIECES = HEAD_DIM / 8, PITCH = head_pitch<HEAD_DIM>();
    const bool keys = keys_at != NONE, values = values_at != NONE;
    const u32 base = shared.call.base, rows = shared.call.rows;
    const HeadPool pool = head_pool<HEAD_DIM>(program, shared.phase.attention, head);
#pragma unroll 1
    for (u32 piece = threadIdx.x; piece < 2 * base * PIECES; piece += CONSUMER_THREADS) {
        const u32 row = piece / PIECES % base, at = piece % PIECES * 16, place = shared.call.length + row;
        const bool is_value = piece >= base * PIECES;
        if (is_value ? !values : !keys) continue;
        const u64 page = load_l2_long(pool.table + (u64)(place / KV_PAGE) * 8);
        const u64 from = page + pool.offset + is_value * pool.value_bytes + place % KV_PAGE * HEAD_DIM * 2;
        *(uint4*)(shared_region(is_value ? values_at : keys_at) + row * PITCH + at) = load_l2_vector(from + at);
    }
    const u32 tasks = keys && values ? 2 * rows : rows;
#pragma unroll 1
    for (u32 first = threadIdx.x / 32; first < tasks; first += CONSUMER_WARPS * BATCH) {
        Head<HEAD_DIM> own[BATCH];
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) {
            const u32 task = smaller(first + i * CONSUMER_WARPS, tasks - 1);
            load_products(own[i], program, shared, head, task < rows ? task : task - rows, !keys || task >= rows);
        }
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) {
            const u32 task = first + i * CONSUMER_WARPS;
            if (task >= tasks) break;
            const bool is_value = !keys || task >= rows;
            if (!is_value) turn_key(own[i], program, shared, task);
            u8* const to = shared_region(is_value ? values_at : keys_at);
            store_head<KvType>(to + (base + (task < rows ? task : task - rows)) * PITCH, own[i]);
        }
    }
}
