// The stream of K and V through shared memory.
//
// A unit of 64 positions comes as portions of K, then portions of V, each of as many positions as the room allows. They
// pass through a ring, so that later ones are under way while one is used. Positions before the call come from the
// pool, those of the call's own rows from the products, and those after them are zero: their weight is zero, but zero
// times what an old owner of the page left may be NaN. Of a call whose rows are a tree the stream has the positions
// before the call only, and ends with K of the first unit that has others: attention_tree.cuh goes on from there.
#pragma once
#include "attention_room.cuh"
#include "attention_rows.cuh"
#include "copies.cuh"

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
                place_rows<HEAD_DIM, KvType>(program, shared, slot, first, old, Room::PORTION, split.common_end, head, is_value);
            }
            portion++;
            if (portion % (4 * Room::PORTIONS) == 0) {
                page = next_page;
                next_page = page_at(program, shared, unit / 2 + 2);
            }
        }
        commit_copies();
    }
};
