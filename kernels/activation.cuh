// Non-linearities of feed-forwards, correctly rounded operations in the order of stheno's host kernels.
#pragma once
#include "math.cuh"
#include "program.cuh"

// x * sigmoid(x).
DEVICE float silu(float x) { return __fdiv_rn(x, __fadd_rn(1.0f, exact_exp(-x))); }

// GELU with tanh(y) = 1 - 2 / (exp(2 y) + 1), y = sqrt(2 / pi) (x + 0.044715 x^3).
DEVICE float gelu_tanh(float x) {
    const float cube = __fmul_rn(__fmul_rn(__fmul_rn(0.044715f, x), x), x);
    const float y = __fmul_rn(0.7978846f, __fadd_rn(x, cube));
    const float tanh = __fsub_rn(1.0f, __fdiv_rn(2.0f, __fadd_rn(exact_exp(__fmul_rn(2.0f, y)), 1.0f)));
    return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, tanh));
}

// `OCCUR`: kinds of activations that `activation` may be, a bit each.
template <u32 OCCUR> DEVICE float activate(u32 activation, float x) {
    if (OCCUR >> ACTIVATION_SILU & 1 && activation == ACTIVATION_SILU) return silu(x);
    if (OCCUR >> ACTIVATION_GELU_TANH & 1 && activation == ACTIVATION_GELU_TANH) return gelu_tanh(x);
    return x;
}
