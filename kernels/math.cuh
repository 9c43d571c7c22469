// exp and log in f32 as fixed sequences of correctly rounded operations: the same lines as stheno's
// speculation::sampling::math, so that equal logits give equal choices everywhere. No approximate instruction, no flush to
// zero.
#pragma once
#include "prelude.cuh"

// 1.5 * 2^23: adding it rounds a float below 2^22 to an integer in the low bits of the mantissa.
#define ROUND_TO_INTEGER 12582912.0f

// x * 2^exponent for exponents of -252 to 254: in two factors, as 2^exponent itself may leave the range. Exact but for results
// that are subnormal or too large: whatever stays normal is normal after the first factor.
DEVICE float times_power_of_two(float x, int exponent) {
    const int first = exponent < -126 ? -126 : exponent > 127 ? 127 : exponent;
    const float scaled = __fmul_rn(x, float_of((u32)(first + 127) << 23));
    return __fmul_rn(scaled, float_of((u32)(exponent - first + 127) << 23));
}

// x = n ln 2 + rest with |rest| <= ln(2) / 2, for |x| up to 2^20; ln 2 is cut to 15 bits, so that its product with n is exact where n
// has up to 9, and what that leaves.
struct Reduced {
    int n;
    float rest;
};
DEVICE float without(float x, float n) { return __fmaf_rn(n, -1.4286068e-6f, __fmaf_rn(n, -float_of(0x3f317200u), x)); }
DEVICE Reduced reduced(float x) {
    const float rounded = __fmaf_rn(x, 1.442695041f, ROUND_TO_INTEGER);
    return {(int)(bits_of(rounded) - bits_of(ROUND_TO_INTEGER)), without(x, __fsub_rn(rounded, ROUND_TO_INTEGER))};
}

// e to the power r, |r| <= ln(2) / 2.
DEVICE float exp_of_rest(float r) {
    float p = __fmaf_rn(0.0013814431f, r, 0.008368797f);
    p = __fmaf_rn(p, r, 0.041668396f);
    p = __fmaf_rn(p, r, 0.1666652f);
    p = __fmaf_rn(p, r, 0.49999994f);
    return __fadd_rn(__fmaf_rn(__fmul_rn(r, r), p, r), 1.0f);
}

// e to the power x. exact_exp(0) is 1, of -inf 0, of inf inf; NaN stays NaN; subnormal results are rounded once.
DEVICE float exact_exp(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -105.0f ? -105.0f : x;
    const Reduced of = reduced(x);
    const float p = exp_of_rest(of.rest);
    // 2^n in two factors, both normal: n itself may leave the range of exponents at either end.
    const int half = of.n >> 1;
    return __fmul_rn(__fmul_rn(p, float_of((u32)(half + 127) << 23)), float_of((u32)(of.n - half + 127) << 23));
}

// Natural logarithm of x. exact_log(0) is -inf, of inf inf; NaN and negative numbers give NaN.
DEVICE float exact_log(float x) {
    const bool subnormal = x < 1.17549435e-38f;
    const float scaled = subnormal ? __fmul_rn(x, 8388608.0f) : x;
    const float shift = subnormal ? -23.0f : 0.0f;
    // x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
    const u32 sqrt_half = 0x3f3504f3u;
    const u32 bits = bits_of(scaled) - sqrt_half;
    const float k = __fadd_rn((float)((int)bits >> 23), shift);
    const float f = __fsub_rn(float_of((bits & 0x007fffffu) + sqrt_half), 1.0f);
    float p = __fmaf_rn(0.06748309f, f, -0.11677877f);
    p = __fmaf_rn(p, f, 0.118886456f);
    p = __fmaf_rn(p, f, -0.12405279f);
    p = __fmaf_rn(p, f, 0.14219451f);
    p = __fmaf_rn(p, f, -0.16668008f);
    p = __fmaf_rn(p, f, 0.20002124f);
    p = __fmaf_rn(p, f, -0.2500001f);
    p = __fmaf_rn(p, f, 0.33333313f);
    const float tail = __fmul_rn(__fmul_rn(f, f), __fmaf_rn(f, p, -0.5f));
    float y = __fmaf_rn(k, float_of(0x3f317200u), __fadd_rn(f, __fmaf_rn(k, 1.4286068e-6f, tail)));
    y = x == float_of(0x7f800000u) ? x : y;
    y = x == 0.0f ? float_of(0xff800000u) : y;
    // False for NaN as well.
    return x >= 0.0f ? y : float_of(0x7fffffffu);
}

// -log(1 - v) for v in (0, 1), precise for small v, where 1 - v would lose all that distinguishes it.
DEVICE float neg_log_one_minus(float v) {
    const float w = __fsub_rn(1.0f, v);
    // What rounding took from 1 - v; exact. log(w - lost) = log(w) - lost / w, to first order.
    const float lost = __fsub_rn(v, __fsub_rn(1.0f, w));
    return __fsub_rn(__fdiv_rn(lost, w), exact_log(w));
}
