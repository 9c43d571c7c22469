// How deep and how wide to guess, as stheno's speculation::policy does, in f32: from the probabilities of paths, how right a draft
// has been so far, and what steps of each width cost on this device. Where guessing does not pay, nothing is guessed for a while.
//
// All by the consumers of block 0 between calls. Shared memory meanwhile: Weighing in the region of scratch.
#pragma once
#include "control.cuh"
#include "grow.cuh"
#include "math.cuh"
#include "rounds.cuh"
#include "sync.cuh"

// Guesses that the draft's own probability is worth.
#define PRIOR 6.0f
// After so many guesses in a bucket, older ones count half.
#define MEMORY 256.0f
// How fast means of costs and rates forget.
#define DECAY 0.1f
// Speculation that promises less than this over a plain step is left.
#define LEAST_GAIN 1.01f
// Drafting that takes less than this share of a plain step is not worth a pause.
#define FREE_SHARE 0.01f
// Tokens that a draft takes in as it guesses, without being measured wrong.
#define FEW 16u
// Rounds after which a gain is believed; and rounds of a pause.
#define TRIAL 6u
#define SHORTEST_PAUSE 16u
#define LONGEST_PAUSE 256u

// By the logarithm of the odds, in steps of 1/2 from -6 to 6.
DEVICE u32 bucket_of(float probability) {
    const float p = smaller(larger(probability, 1e-6f), 1.0f - 1e-6f);
    const float odds = exact_log(__fdiv_rn(p, 1.0f - p));
    const int index = __float2int_rn(2.0f * odds) + (int)(CALIBRATION_BUCKETS / 2);
    return (u32)smaller(larger(index, 0), (int)CALIBRATION_BUCKETS - 1);
}

// The probability that a token is accepted which the draft gives `probability`, its parent being accepted.
DEVICE float calibrated(const Planner& planner, float probability) {
    const u32 bucket = bucket_of(probability);
    return __fdiv_rn(planner.accepted[bucket] + PRIOR * probability, planner.offered[bucket] + PRIOR);
}

// Seconds of a step of the target: between the widths measured, a line.
DEVICE float step_seconds(const Planner& planner, u32 rows) {
    const u32 below = smaller(31u - (u32)__clz((int)larger(rows, 1u)), COST_STEPS - 1);
    const float from = planner.steps[below];
    if (rows == 1u << below || below == COST_STEPS - 1) return planner.stretch * from;
    const float part = (float)(rows - (1u << below)) / (float)(1u << below);
    return planner.stretch * (from + (planner.steps[below + 1] - from) * part);
}

DEVICE float round_seconds(const Planner& planner, u32 nodes, u32 levels) {
    const float drafted = (float)(levels - smaller(levels, 1u)) * planner.level + planner.start;
    return drafted + step_seconds(planner, nodes);
}

// By what rounds are compared whose trees different drafters made: seconds, or rounds alone where trees have one size, for which no
// costs are known.
DEVICE float cost_of(const Planner& planner, u32 nodes, u32 levels) {
    return planner.automatic ? round_seconds(planner, nodes, levels) : 1.0f;
}

// Tokens for the time of the rounds that a draft was asked in; more than plain steps give, since whether it is worth asking at all is
// for pauses to say. Boundless before the first few.
DEVICE float promise_of(const Planner& planner) {
    if (planner.trials < TRIAL) return LARGEST_FLOAT;
    const float plain = planner.automatic ? step_seconds(planner, 1) : 1.0f;
    return larger(__fdiv_rn(planner.tokens, planner.seconds), __fdiv_rn(LEAST_GAIN, plain));
}

// Candidates in the order in which they are taken: parents come before their children.
struct Weighing {
    float edge[ROW_LIMIT];         // that it is accepted, if its parent is
    u32 parent[ROW_LIMIT];         // place of the parent; NONE: the root
    float probability[ROW_LIMIT];  // that it is accepted
    u32 nodes;                     // to verify, the root among them
    float expected;                // tokens that they give
};
static_assert(sizeof(Weighing) <= SCRATCH_BYTES, "room to weigh");

// Decides how many of `count` candidates are worth their verification, out of `limit` nodes at most. `edge` and `parent` are filled;
// visible to all after it.
DEVICE void weigh(const Planner& planner, Weighing& weighing, u32 count, u32 levels, u32 limit) {
    // What the threads have filled in, to thread 0.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x == 0) {
        float expected = 1.0f, best_rate = __fdiv_rn(LEAST_GAIN, round_seconds(planner, 1, levels));
        weighing.nodes = 1;
        weighing.expected = 1.0f;
#pragma unroll 1
        for (u32 i = 0; i < count && i + 2 <= limit; i++) {
            const u32 parent = weighing.parent[i];
            const float own = weighing.edge[i] * (parent == NONE ? 1.0f : weighing.probability[parent]);
            weighing.probability[i] = own;
            expected += own;
            const float rate = __fdiv_rn(expected, round_seconds(planner, i + 2, levels));
            if (rate <= best_rate) continue;
            best_rate = rate;
            weighing.nodes = i + 2;
            weighing.expected = expected;
        }
    }
    // The decision, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}

DEVICE Weighing& weighing_of() { return *(Weighing*)shared_region(SCRATCH_AT); }

// Of what a growing tree has kept: the result is in the region of scratch.
DEVICE_CALL void weigh_growth(const Program& program, u32 limit) {
    const Control& control = control_of(program);
    const Growth& growth = control.growth;
    Weighing& weighing = weighing_of();
    const u32 count = smaller(growth.kept_count, ROW_LIMIT - 1), i = threadIdx.x;
    if (i < count) {
        const Candidate own = growth.kept[i];
        u32 parent = NONE;
        float above = 0.0f;
#pragma unroll 1
        for (u32 j = 0; j < i; j++)
            if (record_of(growth.kept[j]) == own.parent) {
                parent = j;
                above = score_of(growth.kept[j]);
            }
        weighing.parent[i] = parent;
        weighing.edge[i] = calibrated(control.planner, exact_exp(score_of(own) - above));
    }
    weigh(control.planner, weighing, count, growth.levels, limit);
}

// Of a drawn tree, all of which is verified: to leave a draw out because of what it is would bias the output.
DEVICE_CALL void weigh_draws(const Program& program, u32 limit) {
    weigh_growth(program, limit);
    Weighing& weighing = weighing_of();
    const u32 count = control_of(program).growth.kept_count;
    if (threadIdx.x == 0) {
        float expected = 1.0f;
#pragma unroll 1
        for (u32 i = 0; i < count; i++) expected += weighing.probability[i];
        weighing.expected = expected;
        weighing.nodes = 1 + count;
    }
    // The sum, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
}

// What a chain of guesses comes to.
struct Weighed {
    u32 guesses;  // that are worth their verification; all of them where trees have one size
    float worth;  // tokens for the time that these are expected to give
};

// Of the first `guesses` nodes after the root of a chain.
DEVICE_CALL Weighed weigh_chain(const Planner& planner, const Tree& tree, u32 guesses) {
    Weighing& weighing = weighing_of();
    if (threadIdx.x < guesses) {
        const u32 i = threadIdx.x;
        weighing.parent[i] = i == 0 ? NONE : i - 1;
        weighing.edge[i] = calibrated(planner, exact_exp(tree.scores[i + 1] - tree.scores[i]));
    }
    weigh(planner, weighing, guesses, 0, ROW_LIMIT);
    u32 nodes = weighing.nodes;
    float expected = weighing.expected;
    if (!planner.automatic) {
        nodes = 1 + guesses;
        expected = 1.0f;
#pragma unroll 1
        for (u32 i = 0; i < guesses; i++) expected += weighing.probability[i];
    }
    // All have read it before the region is used again.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    return {nodes - 1, __fdiv_rn(expected, cost_of(planner, nodes, 0))};
}

// Whether a level more raises the tokens for the time, after weigh_growth.
DEVICE bool deeper_pays(const Planner& planner, const Growth& growth, u32 limit) {
    const Weighing& weighing = weighing_of();
    float reach = 0.0f;
#pragma unroll 1
    for (u32 i = 0; i < growth.width; i++) reach += exact_exp(score_of(growth.frontier[i]));
    // A guess at the level to come: between what children came to so far, and what the best path has been like.
    const float edge = growth.width > 0 ? exact_exp(__fdiv_rn(score_of(growth.frontier[0]), (float)growth.levels)) : 0.0f;
    const float more = smaller(reach, 1.0f) * 0.5f * (planner.child_rate + edge);
    const float cost = round_seconds(planner, weighing.nodes, growth.levels);
    const float next = round_seconds(planner, smaller(weighing.nodes + 2, limit), growth.levels + 1);
    return (weighing.expected + more) * cost > weighing.expected * next;
}

// Takes note of what a step of the target took.
DEVICE void observe_step(Planner& planner, u32 rows, float seconds) {
    const float stretch = __fdiv_rn(seconds, __fdiv_rn(step_seconds(planner, rows), planner.stretch));
    // What something interrupted says nothing.
    planner.stretch += DECAY * (smaller(stretch, 2.0f * planner.stretch) - planner.stretch);
}

// Takes note of what drafting `levels` levels took in this round.
DEVICE void observe_draft(Planner& planner, u32 levels) {
    const float below = (float)(larger(levels, 1u) - 1);
    const float known = planner.start + planner.level * below;
    // What something interrupted says nothing.
    const float seconds = smaller(planner.drafted, 4.0f * larger(known, step_seconds(planner, 1)));
    // What the two do not explain, in proportion to what they weigh.
    const float step = __fdiv_rn(DECAY * (seconds - known), 1.0f + below * below);
    planner.start = larger(planner.start + step, 0.0f);
    planner.level = larger(planner.level + step * below, 0.0f);
}

// Once every block is done with a call. By one thread.
DEVICE void time_arrival(Control& control, const Call& call) {
    Times& times = control.times;
    times.arrived = nanoseconds();
    if (call.segment != SEGMENT_TARGET) return;
    const u64 took = times.arrived - times.clock;
    times.verify += took;
    if (!GUESSES || !control.planner.automatic) return;
    observe_step(control.planner, call.rows, (float)took * 1e-9f);
    // Steps take as long, whoever drafted.
    control.lookup.stretch = control.planner.stretch;
}

// Once it is decided what follows the call. By one thread.
DEVICE void time_decision(Control& control, const Call& call) {
    Times& times = control.times;
    const u64 now = nanoseconds(), took = now - times.clock;
    times.clock = now;
    if (call.segment == SEGMENT_TARGET) {
        times.accept += now - times.arrived;
    } else if (call.segment != SEGMENT_PREFILL && call.segment != SEGMENT_DRAFT_PREFILL) {
        times.draft += took;
        control.planner.drafted += (float)took * 1e-9f;
    }
}

// Takes note of a round that the planner's draft was asked in: of `count` nodes on the path some were guesses. By all consumers,
// between barriers.
DEVICE_CALL void observe_round(const Program& program, Shared& shared, Planner& planner, u32 count) {
    Control& control = control_of(program);
    const Tree& tree = control.tree;
    const u8* const path = control.generation.path;
    u64& on_path = shared.best[0];
    u64& with_children = shared.best[1];
    if (threadIdx.x == 0) {
        u64 mask = 0;
#pragma unroll 1
        for (u32 j = 0; j < count; j++) mask |= 1ull << path[j];
        on_path = mask;
        with_children = 0;
    }
    // The path, to all.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    const u32 node = threadIdx.x;
    if (node > 0 && node < tree.nodes && on_path >> tree.parents[node] & 1) {
        const u32 parent = tree.parents[node];
        const u32 bucket = bucket_of(exact_exp(tree.scores[node] - tree.scores[parent]));
        atomicAdd(&planner.offered[bucket], 1.0f);
        if (on_path >> node & 1) atomicAdd(&planner.accepted[bucket], 1.0f);
        atomicOr(&with_children, 1ull << parent);
    }
    // All counts, before they are halved and read.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (node < CALIBRATION_BUCKETS && planner.offered[node] >= MEMORY) {
        planner.offered[node] *= 0.5f;
        planner.accepted[node] *= 0.5f;
    }
    if (threadIdx.x == 0) {
#pragma unroll 1
        for (u32 j = 0; j < count; j++)
            if (with_children >> path[j] & 1) planner.child_rate += DECAY * ((j + 1 < count ? 1.0f : 0.0f) - planner.child_rate);
        // Heads guess all levels at once.
        const u32 levels = control.generation.drafter == DRAFTER_HEADS ? 1 : control.growth.levels;
        const float share = larger(DECAY, __fdiv_rn(1.0f, (float)++planner.trials));
        planner.tokens += share * ((float)count - planner.tokens);
        planner.seconds += share * (cost_of(planner, tree.nodes, levels) - planner.seconds);
        const u32 was_behind = planner.behind || planner.passed > FEW;
        planner.behind = planner.passed = 0;
        if (was_behind || !planner.automatic) return;
        observe_draft(planner, levels);
        const float plain = step_seconds(planner, 1);
        // A draft that costs next to nothing may be asked always: what it says decides whether it is heeded.
        if (planner.start > FREE_SHARE * plain) {
            const float spent = planner.drafted + step_seconds(planner, tree.nodes);
            const float gain = __fdiv_rn((float)count * plain, spent);
            planner.rounds++;
            planner.gain += __fdiv_rn(gain - planner.gain, (float)smaller(planner.rounds, 16u));
            if (planner.rounds >= TRIAL && planner.gain < 1.0f) {
                planner.left = planner.length;
                planner.length = smaller(2 * planner.length, LONGEST_PAUSE);
                planner.rounds = 0;
                planner.gain = 1.0f;
            } else if (planner.rounds >= 4 * TRIAL) {
                planner.length = SHORTEST_PAUSE;
            }
        }
    }
}
