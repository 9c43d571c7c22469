// Types, lanes, conversions and reads that everything else uses. No header of a toolkit.
//
// Rule of the house: what is written under a condition is initialised first. Otherwise a register of it is alive from the start of
// the kernel on, all around its loop, and others are spilled for it.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define DEVICE static __device__ __forceinline__
// The same for members, which are not static.
#define METHOD __device__ __forceinline__
// A function of constants, for sizes of arrays too.
#define CONSTANT __device__ __forceinline__ constexpr
// A function that is called: for phases, whose registers nobody else needs meanwhile, for code that runs once in a round, and for
// what would otherwise stand in many places.
#define DEVICE_CALL static __device__ __noinline__
#define KERNEL extern "C" __global__ void

#define ALL_LANES 0xffffffffu

// Bytes before a field, a constant. Without the toolkit's headers there is no offsetof, and NVRTC has __builtin_offsetof only in its
// latest versions.
#define OFFSET_OF(type, field) ((u64)__INTADDR__(&((type*)0)->field))

DEVICE u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

DEVICE u64 nanoseconds() {
    u64 value;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(value)::"memory");
    return value;
}

template <typename T> DEVICE T smaller(T a, T b) { return b < a ? b : a; }
template <typename T> DEVICE T larger(T a, T b) { return a < b ? b : a; }
CONSTANT u32 divide_up(u32 a, u32 b) { return (a + b - 1) / b; }

// Word i of four, without an array that would have to lie in memory.
DEVICE u32 word_of(uint4 words, u32 i) {
    const u32 low = i & 1 ? words.y : words.x;
    const u32 high = i & 1 ? words.w : words.z;
    return i & 2 ? high : low;
}

DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(u32 x) { return __uint_as_float(x); }

// Both rounded to nearest even, low in the low half.
DEVICE u32 pack_bf16(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
DEVICE u32 pack_f16(float low, float high) {
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
// The two elements of a pair, exact.
DEVICE float bf16_low(u32 pair) { return float_of(pair << 16); }
DEVICE float bf16_high(u32 pair) { return float_of(pair & 0xffff0000u); }
DEVICE float f16_low(u32 pair) {
    float value;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l; }" : "=f"(value) : "r"(pair));
    return value;
}
DEVICE float f16_high(u32 pair) {
    float value;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h; }" : "=f"(value) : "r"(pair));
    return value;
}

DEVICE uint4 load_shared(u32 address) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(address)
                 : "memory");
    return value;
}

// Reads past L1, which is not coherent: for data that other blocks write while the kernel runs.
DEVICE u32 load_l2(u64 address) {
    u32 value;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
}
DEVICE u64 load_l2_long(u64 address) {
    u64 value;
    asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
    return value;
}
DEVICE float load_l2_float(u64 address) { return float_of(load_l2(address)); }
DEVICE uint4 load_l2_vector(u64 address) {
    uint4 value;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address)
                 : "memory");
    return value;
}

// Reads of what no kernel ever writes: weights, tables, the program itself.
DEVICE u32 load_constant(u64 address) {
    u32 value;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(value) : "l"(address));
    return value;
}
DEVICE float load_constant_float(u64 address) { return float_of(load_constant(address)); }
DEVICE uint4 load_constant_vector(u64 address) {
    uint4 value;
    asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address));
    return value;
}

DEVICE void store_float(u64 address, float value) { *(float*)address = value; }
DEVICE void store_word(u64 address, u32 value) { *(u32*)address = value; }
