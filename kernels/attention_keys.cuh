// Shared memory of attention, and the stream of K and V through it.
//
// A unit of 64 positions comes as portions of K, then portions of V, each of as many positions as the room allows. They
// pass through a ring, so that later ones are under way while one is used. Positions before the call come from the
// pool, those of the call's own rows from the products, and those after them are zero: their weight is zero, but zero
// times what an old owner of the page left may be NaN. Of a call whose rows are a tree the stream has the positions
// before the call only, and ends with K of the first unit that has others: attention_tree.cuh goes on from there.
#pragma once
#include "attention_split.cuh"
#include "copies.cuh"
#include "rope.cuh"
#include "sync.cuh"

// Where things lie in scratch and partials, which follow each other, for row blocks of up to TILES tiles. Rows are
// padded by 16 bytes, so that the eight rows of a matrix lie in different banks.
template <u32 HEAD_DIM, u32 TILES> struct AttentionRoom {
    static constexpr u32 PITCH = 2 * HEAD_DIM + 16;
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

// Q or K of products of a row: normed, by weights at `norm` of the constants if that is not NONE, and rotated. A call, for code
// of a call's own rows stands in many places, and its registers should not be taken from the sums.
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

// Which portion follows which. All consumers walk the same way.
template <u32 HEAD_DIM, typename KvType, u32 TILES> struct KeyStream {
    typedef AttentionRoom<HEAD_DIM, TILES> Room;
    static constexpr u32 PIECES = HEAD_DIM / 8;  // of 16 bytes in a row

    u32 head;
    // Portions are numbered from position 0 on, K and V of a unit in turn; a portion's slot is its number modulo SLOTS.
    u32 portion, end_portion;  // the next that is started, and the end
    u64 page, next_page;       // the second is asked for a page ahead, so that no copy waits for it

    // For units `first` to `last - 1`, or those before a tree's and what K there is of its first.
    METHOD void open(const Program& program, const Shared& shared, const Split& split, u32 of_head, u32 first,
                     u32 last) {
        head = of_head;
        portion = first * 2 * Room::PORTIONS;
        end_portion = last * 2 * Room::PORTIONS;
        if (last > split.tree_unit) {
            const u32 common = shared.call.length % (1u << UNIT_SHIFT);
            end_portion = split.tree_unit * 2 * Room::PORTIONS + divide_up(common, Room::PORTION);
        }
        page = page_at(program, shared, first / 2);
        next_page = page_at(program, shared, first / 2 + 1);
    }

    // Starts the first copies. What the ring held before has been used by all.
    METHOD void start(const Program& program, const Shared& shared, const Split& split) {
#pragma unroll 1
        for (u32 i = 0; i + 1 < Room::SLOTS; i++) fill(program, shared, split);
    }

    // Waits for portion `number`, starts another one in its predecessor's slot, and gives the portion's shared address.
    // All that consumers wrote to shared memory before is visible after it.
    METHOD u32 next(const Program& program, const Shared& shared, const Split& split, u32 number) {
        wait_copies<Room::SLOTS - 2>();
        // Orders every thread's copies and stores before the reads of the portion, and all reads of the one before it
        // ahead of the copies that overwrite it.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        fill(program, shared, split);
        return shared_address(shared_region(0)) + slot_at(number);
    }

    // The page of the last unit that the stream had a portion of.
    METHOD u64 last_page() const { return page; }

  private:
    // Of the pool; 0 where the stream has nothing to copy from it.
    METHOD u64 page_at(const Program& program, const Shared& shared, u32 number) const {
        const bool needed = number * 4 * Room::PORTIONS < end_portion && number * KV_PAGE < shared.call.length;
        return needed ? load_l2_long(program.kv[shared.phase.attention.kv].table + (u64)number * 8) : 0;
    }

    static METHOD u32 slot_at(u32 number) { return Room::RING_AT + number % Room::SLOTS * Room::SLOT_BYTES; }

    // Each call makes one group of copies, also past the end, so that waits can count them.
    METHOD void fill(const Program& program, const Shared& shared, const Split& split) {
        if (portion < end_portion) {
            const u32 unit = portion / (2 * Room::PORTIONS), index = portion % (2 * Room::PORTIONS);
            const bool is_value = index >= Room::PORTIONS;
            const u32 first = (unit << UNIT_SHIFT) + index % Room::PORTIONS * Room::PORTION;
            const u32 old = first < shared.call.length ? smaller(shared.call.length - first, Room::PORTION) : 0;
            const HeadPool pool = head_pool<HEAD_DIM>(program, shared.phase.attention, head);
            const u64 from = page + pool.offset + is_value * pool.value_bytes + first % KV_PAGE * HEAD_DIM * 2;
            const u32 to = shared_address(shared_region(0)) + slot_at(portion);
            // Not unrolled: addresses would take registers that the sums need.
#pragma unroll 1
            for (u32 piece = threadIdx.x; piece < old * PIECES; piece += CONSUMER_THREADS)
                copy_16(to + piece / PIECES * Room::PITCH + piece % PIECES * 16, from + piece * 16);
            if (old < Room::PORTION) {
                u8* const slot = shared_region(0) + slot_at(portion);
                fill_own(program, shared, slot, first, old, split.common_end, is_value);
            }
            portion++;
            if (portion % (4 * Room::PORTIONS) == 0) {
                page = next_page;
                next_page = page_at(program, shared, unit / 2 + 2);
            }
        }
        commit_copies();
    }

    // Positions from `first + old` on: those of a chain's rows, then none. A warp does one; K and V begin with
    // different warps.
    METHOD void fill_own(const Program& program, const Shared& shared, u8* slot, u32 first, u32 old, u32 end,
                         bool is_value) {
        const u32 turn = (2 * CONSUMER_WARPS - 1 - is_value - threadIdx.x / 32) % CONSUMER_WARPS;
        const u32 lane = threadIdx.x % 32;
#pragma unroll 1
        for (u32 i = old + turn; i < Room::PORTION; i += CONSUMER_WARPS) {
            u8* to = slot + i * Room::PITCH;
            if (first + i < end) {
                Head<HEAD_DIM> own;
                load_own(own, program, shared, head, first + i - shared.call.length, is_value);
                store_head<KvType>(to, own);
            } else if (lane < PIECES) {
                *(uint4*)(to + lane * 16) = make_uint4(0, 0, 0, 0);
            }
        }
    }
};

// Appends K and V of the call's rows `first`, `first + step`... to the pool: row i in the place of position length + base + i,
// which is the position of a chain's row; rows of a tree are moved to theirs when it is known which stay (commit.cuh).
// Their warps are others than those that have most to do for the stream and the queries of a single row.
template <u32 HEAD_DIM, typename KvType>
DEVICE void append(const Program& program, const Shared& shared, u32 head, u32 first, u32 step) {
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
