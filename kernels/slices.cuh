// The activations of a product, as its warps read them: each has a slice of 64 columns of every chunk.
#pragma once
#include "copies.cuh"
#include "program.cuh"

// Sizes for calls of that many row tiles: tiles of a pass, and slices of activations that a warp holds.
template <u32 ROW_TILES> struct Widths;
template <> struct Widths<1> { static constexpr u32 GROUP = GROUP_1, SLOTS = SLOTS_1; };
template <> struct Widths<2> { static constexpr u32 GROUP = GROUP_2, SLOTS = SLOTS_2; };
template <> struct Widths<4> { static constexpr u32 GROUP = GROUP_4, SLOTS = SLOTS_4; };
template <> struct Widths<8> { static constexpr u32 GROUP = GROUP_8, SLOTS = SLOTS_8; };

DEVICE u32 group_width(u32 row_tiles) {
    return row_tiles == 1 ? GROUP_1 : row_tiles == 2 ? GROUP_2 : row_tiles == 4 ? GROUP_4 : GROUP_8;
}

// Rows of a phase as exponent of the next power of two, at least 1: a warp finishes two rows at a time.
DEVICE u32 rows_shift(u32 rows) { return rows > 2 ? 32 - __clz(rows - 1) : 1; }

// Copies a slice of the output rows out of a buffer of all rows.
template <u32 ROW_TILES> DEVICE_CALL void copy_gathered(const Shared& shared, u32 target, u64 source) {
    const u32 lane = threadIdx.x % 32;
// One after the other: addresses of many at a time would take the registers of sums.
#pragma unroll 1
    for (u32 n = 0; n < ROW_TILES; n++) {
        const u32 token = n * 8 + lane / 4;
        // Rows beyond the last repeat row 0; nobody uses what comes of them.
        const u32 row = token < shared.call.output_rows ? shared.call.outputs[token] : 0;
        const u64 piece = source + row / 8 * 512 + (row % 8 * 4 + lane % 4) * 16;
        copy_16(target + n * 512, piece);
        copy_16(target + (ROW_TILES + n) * 512, piece + shared.call.row_tiles * 512);
    }
}

// A warp's slices of activations, one of each chunk, copied to its part of the scratch region. Only this warp reads them, so there
// is no barrier.
//
// Of calls of up to eight rows, only rows that there are are copied, rounded up to a power of two; what lanes hold of others is 0.
// If all slices have room they stay for all passes. Else there are SLOTS of them, copied as many ahead of the multiplication, one
// chunk after the other and again for each pass.
template <u32 ROW_TILES> struct Slices {
    static constexpr u32 SLOTS = Widths<ROW_TILES>::SLOTS, BYTES = ROW_TILES * 1024;
    static_assert(CONSUMER_WARPS * SLOTS * BYTES <= SCRATCH_BYTES, "scratch is too small");
    static_assert((SLOTS & (SLOTS - 1)) == 0, "slots are counted by their last bits");

    // Few words, for they live as long as the accumulators; the rest is read again from the phase.
    u64 source;  // of the next copy
    u32 shape;   // bytes to the one after it, a multiple of 8192; below it lanes that hold rows that are copied, and flags
    u32 pass;    // copies of a pass, and from bit 16 on those until the next one, which begins with the first chunk's again
    u32 left;    // copies still to be started
    u32 turn;    // slot of the next read, and then of the copy that takes it
    static constexpr u32 LANES = 63;
    static constexpr u32 GATHERED = 64;  // only output rows are copied
    static constexpr u32 STAYS = 128;    // all slices have a slot
    static constexpr u32 LANDED = 256;   // and are there

    METHOD u32 step() const { return shape & ~8191u; }
    METHOD u32 lanes() const { return shape & LANES; }
    METHOD bool is(u32 flag) const { return shape & flag; }

    // Row tiles of the input.
    static METHOD u32 input_tiles(const Shared& shared) {
        return shared.phase.linear.input_rows == ROWS_OUTPUT ? shared.call.output_tiles : shared.call.row_tiles;
    }

    // Chunks in which the warp has a slice.
    static METHOD u32 chunks(const Shared& shared) {
        const u32 k = shared.phase.linear.k;
        return k / CHUNK + (threadIdx.x / 32 * SLICE < k % CHUNK);
    }

    // Shared address of the first slot.
    static METHOD u32 base() { return shared_address(shared_region(SCRATCH_AT)) + threadIdx.x / 32 * SLOTS * BYTES; }

    METHOD void begin(const Program& program, const Shared& shared, u32 rows, u32 passes) {
        const u32 row_tiles = input_tiles(shared);
        const u32 own = chunks(shared);
        static_assert(CHUNK / 32 * 512 == 8192, "step");
        source = program.workspace + shared.phase.linear.input + threadIdx.x / 32 * (SLICE / 32) * row_tiles * 512;
        const u32 few = ROW_TILES == 1 ? (rows > 1 ? 4u << rows_shift(rows) : 4u) : 32u;
        const bool stays = own * (2 * ROW_TILES * 16 * few) <= SLOTS * BYTES;
        shape = row_tiles * 8192 | (stays ? few | STAYS : 32u);
        if (shared.phase.linear.input_rows == ROWS_GATHERED) shape |= GATHERED;
        left = passes * own;
        pass = own << 16 | own;
        turn = 0;
    }

    // Starts the first copies: what they copy is there.
    METHOD void start(const Shared& shared) {
        if (is(STAYS)) {
            copy_all(shared, input_tiles(shared));
        } else {
#pragma unroll 1
            for (u32 i = 0; i < SLOTS; i++) {
                copy_next(shared);
                turn = (turn + 1) % SLOTS;
            }
        }
    }

    // Slices that stay are read from the first slot on again.
    METHOD void begin_pass() {
        if (is(STAYS)) turn = 0;
    }

    // Shared address of the slot `ahead` slots after the one in turn.
    METHOD u32 slot(u32 ahead) const {
        if (is(STAYS)) return base() + (turn + ahead) * (2 * ROW_TILES * 16) * lanes();
        return base() + (turn + ahead) % SLOTS * BYTES;
    }

    // All slices, in the order of their slots: pieces of 16 bytes of a k32 block, row tile and lane.
    METHOD void copy_all(const Shared& shared, u32 row_tiles) const {
        const u32 shift = 31 - __clz(lanes()), of_block = ROW_TILES << shift;
        const u32 count = (pass & 0xffff) * 2 * of_block;
#pragma unroll 1
        for (u32 piece = threadIdx.x % 32; piece < count; piece += 32) {
            const u32 block = (piece >> shift) / ROW_TILES, token = (piece >> shift) % ROW_TILES * 8 + piece % lanes() / 4;
            u32 row = token;
            // Rows beyond the last repeat row 0; nobody uses what comes of them.
            if (is(GATHERED)) row = token < shared.call.output_rows ? shared.call.outputs[token] : 0;
            const u64 from = source + (u64)(block / 2) * step() + block % 2 * (row_tiles * 512);
            copy_16(base() + piece * 16, from + row / 8 * 512 + (row % 8 * 4 + piece % 4) * 16);
        }
        commit_copies();
    }

    // Starts the next copy, if there is one, into the slot in turn, which no lane reads any more.
    METHOD void copy_next(const Shared& shared) {
        const u32 lane = threadIdx.x % 32;
        if (left > 0) {
            const u32 target = slot(0) + lane * 16;
            if (is(GATHERED)) {
                copy_gathered<ROW_TILES>(shared, target, source);
            } else {
#pragma unroll
                for (u32 i = 0; i < 2 * ROW_TILES; i++) copy_16(target + i * 512, source + i * 512 + lane * 16);
            }
            left--;
            source += step();
            pass -= 1u << 16;
            if (pass < 1u << 16) {
                source -= (u64)pass * step();
                pass |= pass << 16;
            }
        }
        // Also where there was none, so that the number of groups under way says which slots are full.
        commit_copies();
    }

    // The next N slices, once their copies have landed.
    template <u32 N> METHOD void wait() {
        if (is(LANDED)) return;
        if (is(STAYS)) wait_copies<0>();
        else wait_copies<SLOTS - N>();
        if (is(STAYS)) shape |= LANDED;
        // Each lane has waited for its own copies; orders them before the reads of the others.
        __syncwarp();
    }

    // The tokens of N row tiles from `first` on of the slice in a slot: [k32 block][row tile].
    template <u32 N> METHOD void load(u32 slot, u32 first, uint4 (&tokens)[2][N]) const {
        const u32 lane = threadIdx.x % 32;
#pragma unroll
        for (u32 block = 0; block < 2; block++)
#pragma unroll
            for (u32 n = 0; n < N; n++) {
                tokens[block][n] = make_uint4(0, 0, 0, 0);
                const u32 tile = block * ROW_TILES + first + n;
                if (ROW_TILES > 1) tokens[block][n] = load_shared(slot + tile * 512 + lane * 16);
                else if (lane < lanes()) tokens[block][n] = load_shared(slot + (tile * lanes() + lane) * 16);
            }
    }

    // After all lanes have read N slices: starts the copies that take their slots.
    template <u32 N> METHOD void release(const Shared& shared) {
        if (is(STAYS)) {
            turn += N;
            return;
        }
        // Orders the reads before the copies that overwrite.
        __syncwarp();
#pragma unroll 1
        for (u32 i = 0; i < N; i++) {
            copy_next(shared);
            turn = (turn + 1) % SLOTS;
        }
    }
};
