// Each block chooses for a case of its own; and the functions that choices are made of, element by element.
#include "choose.cuh"
#include "counts.cuh"

struct Case {
    Program program;
    Sampling sampling;
    Call call;
    ChoosePhase phase;
    u32 row;
    u32 is_counted;  // count_tokens(counted_length, counted, counted_tokens) comes first
    u32 counted_length, counted_tokens;
    u32 times;  // more than one: a block may choose for several rows
    u64 counted;  // u32 [counted_tokens]
};

template <typename T> DEVICE void copy_words(T& to, const T& from) {
    for (u32 i = threadIdx.x; i < sizeof(T) / 4; i += THREADS) ((u32*)&to)[i] = ((const u32*)&from)[i];
}

// Case [block].
KERNEL choose_cases(u64 cases) {
    Shared& shared = *(Shared*)shared_region(SHARED_AT);
    const Case& one = ((const Case*)cases)[blockIdx.x];
    copy_words(shared.call, one.call);
    copy_words(shared.phase.choose, one.phase);
    __syncthreads();
    // The ninth warp is elsewhere.
    if (threadIdx.x >= CONSUMER_THREADS) return;
    if (one.is_counted) {
        count_tokens(one.program, one.sampling, one.counted_length, (const u32*)one.counted, one.counted_tokens);
        consumers_meet();
    }
    for (u32 i = 0; i < one.times; i++) choose(one.program, shared, one.sampling, one.row);
}

struct Elements {
    u64 input;   // u32 [count]
    u64 output;  // u32 [count][8]: exp, log, neg_log_one_minus, ordered, finite, unit, noise, bound of noise
    u32 count, unused;
};

KERNEL functions(Elements elements) {
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < elements.count; i += gridDim.x * blockDim.x) {
        const u32 word = load_l2(elements.input + 4ull * i);
        const float x = float_of(word);
        const u64 output = elements.output + 32ull * i;
        store_float(output, exact_exp(x));
        store_float(output + 4, exact_log(x));
        store_float(output + 8, neg_log_one_minus(unit(word)));
        store_word(output + 12, ordered(finite_logit(x)));
        store_float(output + 16, finite_logit(x));
        store_float(output + 20, unit(word));
        store_float(output + 24, gumbel(word));
        store_float(output + 28, gumbel_at_most(word));
    }
}

struct Shares {
    u64 input;   // u64 [count][2]: bits of top-p, total
    u64 output;  // u64 [count]
    u32 count, unused;
};

KERNEL shares(Shares shares) {
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < shares.count; i += gridDim.x * blockDim.x) {
        const u64* in = (const u64*)shares.input + 2 * i;
        ((u64*)shares.output)[i] = share_of(float_of((u32)in[0]), in[1]);
    }
}

struct Counters {
    u64 input;   // u32 [count][6]: counter and key
    u64 output;  // u32 [count][4]
    u32 count, unused;
};

KERNEL philox(Counters counters) {
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < counters.count; i += gridDim.x * blockDim.x) {
        const u32* in = (const u32*)counters.input + 6 * i;
        ((uint4*)counters.output)[i] =
            philox4x32_10(make_uint4(in[0], in[1], in[2], in[3]), make_uint2(in[4], in[5]));
    }
}
