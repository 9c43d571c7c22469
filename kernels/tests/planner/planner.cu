// Rounds of a generation of which nothing is computed: what a draft says, what the target chooses and how long that takes is a test's;
// what comes of it is decided as in the program.
#include "accept.cuh"

// A round, as it was when it was verified, and what the planner then knew.
struct Trace {
    u32 nodes, levels, count;
    float drafted;
    Planner planner;
};

struct Case {
    u64 control;
    u64 workspace;
    u64 history;
    u64 followers;
    u64 host;
    u64 lists;    // TopLogprob [round][level][TOP_LIMIT]: every node of a level has the same children
    u64 targets;  // u32 [round][level]: the token after a node so many levels below the root
    u64 traces;   // Trace [round]
    u32 rounds, levels;
    float start, level;  // seconds of a draft's first call and of each one more
    ChoosePhase phase;
};

// What would be there after the call: choices, or lists.
DEVICE void answer(const Program& program, const Case& own, Shared& shared, u32 round) {
    const Call& call = shared.call;
    const Control& control = control_of(program);
    if (call.segment == SEGMENT_TARGET) {
        const u32* const targets = (const u32*)own.targets + round * own.levels;
        Choice* const choices = (Choice*)(program.workspace + own.phase.choices);
        for (u32 row = threadIdx.x; row < call.rows; row += CONSUMER_THREADS)
            choices[row] = {targets[call.positions[row] - call.length], 1, 0.0f, CHOICE_MADE};
        return;
    }
    const bool is_heads = control.generation.drafter == DRAFTER_HEADS;
    const TopLogprob* const said = (const TopLogprob*)own.lists + round * own.levels * TOP_LIMIT;
    TopLogprob* const top = (TopLogprob*)(program.workspace + own.phase.top);
    const u32 lists = is_heads ? own.levels : call.output_rows;
    for (u32 i = threadIdx.x; i < lists * TOP_LIMIT; i += CONSUMER_THREADS) {
        const u32 list = i / TOP_LIMIT, entry = i % TOP_LIMIT;
        const u32 level = is_heads ? list : control.growth.levels;
        top[(is_heads ? list * VERIFY_ROWS : list) * TOP_LIMIT + entry] = said[level * TOP_LIMIT + entry];
    }
}

// How long the call would have taken.
DEVICE float seconds_of(const Case& own, const Control& control, const Call& call) {
    if (call.segment == SEGMENT_TARGET) return step_seconds(control.planner, call.rows);
    return call.segment == SEGMENT_DRAFT && control.generation.drafter != DRAFTER_HEADS ? own.level : own.start;
}

// A block plays the rounds of one case.
KERNEL __launch_bounds__(THREADS) play(const Case* cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Case own = cases[blockIdx.x];
    Program program = {};
    program.control = own.control;
    program.workspace = own.workspace;
    program.history = own.history;
    program.followers = own.followers;
    program.host = own.host;
    program.rounds = NONE;
    Control& control = control_of(program);
    if (threadIdx.x == 0) {
        shared.phase.choose = own.phase;
        shared.words[2] = 0;
        shared.steps = 0;
    }
    for (u32 round = 0; round < own.rounds;) {
        // The call, after its decision; and all reads of the last one, before it is replaced.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        for (u32 i = threadIdx.x; i < sizeof(Call) / 4; i += CONSUMER_THREADS) ((u32*)&shared.call)[i] = ((const u32*)&control.call)[i];
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        const bool is_step = shared.call.segment == SEGMENT_TARGET;
        const u32 known = control.generation.known;
        answer(program, own, shared, round);
        Trace* const trace = (Trace*)own.traces + round;
        if (threadIdx.x == 0) {
            if (is_step) {
                trace->nodes = shared.call.rows;
                trace->levels = control.growth.levels;
                trace->drafted = control.planner.drafted;
            }
            control.times.clock = nanoseconds() - (u64)(seconds_of(own, control, shared.call) * 1e9f);
        }
        // The answer and the time, to all.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        finish_call(program, shared);
        // The decision, to all.
        barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
        if (is_step && threadIdx.x == 0) {
            trace->count = control.generation.known - known;
            trace->planner = control.planner;
        }
        round += is_step;
    }
}
