// Guesses from the sequence itself: a chain of what followed most often where its end stood before, by prediction by partial
// matching. Token for token and bit for bit what stheno's draft::ngram makes of the same text with one child a node, but where a token
// stands at more places than are kept (see Guesses::find).
//
// The text is the history without its last token, which is the root. A place is the index of a token of the text; it matches as many
// tokens before it as are those of the end of text, root and path. Below a node comes the token that stands at most of the places
// with the longest match, of equally many the one with the latest. If c of n such places have it and they match m tokens, its
// probability is c / (n + ESCAPE / m).
//
// Shared memory meanwhile: Places in the region of scratch.
#pragma once
#include "control.cuh"
#include "math.cuh"
#include "program.cuh"
#include "sync.cuh"

// Tokens that are compared: longer repetitions are not told apart.
#define MATCH_LIMIT 31u
// Places that are kept.
#define PLACES_LIMIT 2048u
// Matches of so many tokens are long.
#define LONG_MATCH 16u
// Weight of what has not been seen, after one token.
#define ESCAPE 2.0f

// What is counted of a node.
struct Tally {
    u64 best;     // how often the most frequent token stands at these places, over the latest of its places
    u32 longest;  // match of a place
    u32 total;    // places that match so many tokens
};

// Places that match a token at least. A thread works on every CONSUMER_THREADS-th of them, from its own index on.
struct Places {
    Tally tallies[2];          // of levels in turn
    u32 found;                 // also those that there was no room for
    u32 listed[PLACES_LIMIT];  // place << 5 | match; 0: not any more
};
static_assert(sizeof(Places) <= SCRATCH_BYTES && MATCH_LIMIT < 1u << 5, "room for places");

struct Guesses {
    const u32* history;
    const Tree& tree;
    Places& places;
    u32 known;  // tokens of the history
    u32 depth;  // of the node

    // The token so many before the node's.
    METHOD u32 before(u32 count) const {
        return count < depth ? tree.tokens[depth - count] : history[known - 1 - (count - depth)];
    }

    METHOD u32 match(u32 place) const {
        const u32 limit = smaller(place, MATCH_LIMIT);
        u32 length = 0;
#pragma unroll 1
        while (length < limit && history[place - 1 - length] == before(length)) length++;
        return length;
    }

    METHOD u32 listed() const { return smaller(places.found, PLACES_LIMIT); }

    // Lists the places of a node's token. Where there is no room for all: those with long matches, or with the longest; if that is not
    // enough either, the latest. Visible to all after it.
    METHOD void find(Tally& tally) const {
        const u32 end = known - 1, token = before(0);
        u32 least = 1, first = 1;
#pragma unroll 1
        for (;;) {
            if (threadIdx.x == 0) places.found = 0;
            // The count, before anything is added.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
            u32 longest = 0;
#pragma unroll 1
            for (u32 group = (first - 1) / 4 + threadIdx.x; 4 * group + 1 < end; group += CONSUMER_THREADS) {
                const uint4 tokens = *(const uint4*)(history + 4 * group);
#pragma unroll 1
                for (u32 i = 0; i < 4; i++) {
                    const u32 place = 4 * group + i + 1;
                    if (word_of(tokens, i) != token || place < first || place >= end) continue;
                    const u32 length = match(place);
                    if (length < least) continue;
                    longest = larger(longest, length);
                    const u32 index = atomicAdd(&places.found, 1u);
                    if (index < PLACES_LIMIT) places.listed[index] = place << 5 | length;
                }
            }
            if (longest > 0) atomicMax(&tally.longest, longest);
            // All places and the longest match, before they are read.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
            if (places.found <= PLACES_LIMIT) return;
            const u32 wanted = smaller(tally.longest, LONG_MATCH);
            if (least < wanted) least = wanted;
            else first = end - PLACES_LIMIT;
            // All have read the count before it begins anew.
            barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        }
    }
};

// By all consumers of a block. Makes of `tree`, of which the root is there, a chain of at most `limit` guesses at what follows
// history[0..known], and returns how many; 0 if the last token never stood before another.
DEVICE_CALL u32 guess_tokens(const Program& program, Tree& tree, u32 known, u32 limit) {
    limit = smaller(limit, smaller(VERIFY_ROWS, control_of(program).generation.nodes) - 1);
    const u32* const history = (const u32*)program.history;
    u32* const followers = (u32*)program.followers;
    Places& places = *(Places*)shared_region(SCRATCH_AT);
    if (threadIdx.x < 2) places.tallies[threadIdx.x] = {};
    if (threadIdx.x == 0) places.found = 0;
    // The tallies, before they are read.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    float score = 0.0f;
    u32 depth = 0, found_at = 0;
#pragma unroll 1
    for (; depth < limit; depth++) {
        const Guesses guesses = {history, tree, places, known, depth};
        Tally& tally = places.tallies[depth % 2];
        Tally& next = places.tallies[(depth + 1) % 2];
        // After so many guesses places count that match none of the tokens before them.
        if (tally.longest == 0 || depth - found_at == MATCH_LIMIT) {
            guesses.find(tally);
            found_at = depth;
        }
        const u32 longest = tally.longest, listed = guesses.listed();
        if (longest == 0) break;
        if (threadIdx.x == 0) next = {};
        const auto counts = [&](u32 i) { return places.listed[i] % 32 == longest; };
#pragma unroll 1
        for (u32 i = threadIdx.x; i < listed; i += CONSUMER_THREADS)
            if (counts(i)) atomicExch(&followers[history[places.listed[i] / 32]], 0u);
        // Counters at 0, before they are raised; and the next tally.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        u32 own = 0;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < listed; i += CONSUMER_THREADS) {
            if (!counts(i)) continue;
            atomicAdd(&followers[history[places.listed[i] / 32]], 1u);
            own++;
        }
        if (own > 0) atomicAdd(&tally.total, own);
        // All counts, before they are compared.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        u64 best = 0;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < listed; i += CONSUMER_THREADS) {
            if (!counts(i)) continue;
            const u32 place = places.listed[i] / 32;
            const u32 count = load_l2(program.followers + 4ull * history[place]);
            best = larger(best, (u64)count << 32 | place);
        }
        if (best > 0) atomicMax(&tally.best, best);
        // The best of all, before it is read.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        best = tally.best;
        const u32 token = history[(u32)best];
        const float whole = __fadd_rn((float)tally.total, __fdiv_rn(ESCAPE, (float)longest));
        score = __fadd_rn(score, exact_log(__fdiv_rn((float)(u32)(best >> 32), whole)));
        if (threadIdx.x == 0) {
            tree.tokens[depth + 1] = token;
            tree.parents[depth + 1] = depth;
            tree.scores[depth + 1] = score;
        }
        // Places that go on with it move along.
        u32 further = 0;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < listed; i += CONSUMER_THREADS) {
            const u32 place = places.listed[i] / 32, match = smaller(places.listed[i] % 32 + 1, MATCH_LIMIT);
            const bool goes_on = place > 0 && history[place] == token && place + 2 < known;
            places.listed[i] = goes_on ? (place + 1) << 5 | match : 0;
            if (goes_on) further = larger(further, match);
        }
        if (further > 0) atomicMax(&next.longest, further);
        // The guess, and the longest match after it, to all.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    }
    // All have read what was counted, before the region is used again.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    return depth;
}
