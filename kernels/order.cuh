// Order of logits: the larger first, equal ones by the smaller token. One u64 key says both, so that the best of any
// set is the largest key, whoever compares and in whichever order.
#pragma once
#include "prelude.cuh"

#define MINUS_INFINITY float_of(0xff800000u)
#define LARGEST_FLOAT float_of(0x7f7fffffu)
// `ordered` of -inf: a token whose key has no more than this in its high word cannot be chosen.
#define ORDERED_NOTHING 0x007fffffu

// NaN as -inf, inf as the largest number.
DEVICE float finite_logit(float logit) {
    // Of NaN and a number these instructions give the number.
    asm("max.f32 %0, %0, 0fFF800000;" : "+f"(logit));
    asm("min.f32 %0, %0, 0f7F7FFFFF;" : "+f"(logit));
    return logit;
}

// A number that orders as the float does; both zeros are equal. Not for NaN.
DEVICE u32 ordered(float x) {
    const u32 bits = bits_of(__fadd_rn(x, 0.0f));
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// The float that orders so; 0 for both zeros.
DEVICE float unordered(u32 order) { return float_of(order >> 31 ? order & 0x7fffffffu : ~order); }

// Of a finite logit or -inf. No key is 0, which stands for no token at all.
DEVICE u64 key_of(float logit, u32 token) { return (u64)ordered(logit) << 32 | (u32)~token; }
DEVICE u32 token_of(u64 key) { return ~(u32)key; }
DEVICE float logit_of(u64 key) { return unordered((u32)(key >> 32)); }
DEVICE bool is_choosable(u64 key) { return (u32)(key >> 32) > ORDERED_NOTHING; }

// The best of tokens that are seen in ascending order, for less than their keys cost.
struct Best {
    float logit;
    u32 token;

    METHOD void see(float other, u32 its_token) {
        if (other > logit) {
            logit = other;
            token = its_token;
        }
    }
    // 0 if all were -inf.
    METHOD u64 key() const { return logit > MINUS_INFINITY ? key_of(logit, token) : 0; }
};

DEVICE Best no_best() { return {MINUS_INFINITY, 0}; }
