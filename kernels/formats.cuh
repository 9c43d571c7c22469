// Formats of weights as types: template parameter F of everything that reads them. Each file of formats/ has one kind. A
// format has
//
//   BITS                        of an element
//   SCALED, HAS_OFFSET          groups have scales; and offsets
//   GROUP_BYTES, groups(k)      bytes of a group's scales, groups of a block of k columns
//   FOLDS, group(slice, fold)   sums of a slice that are scaled one by one, and the group that each belongs to
//   MULTIPLES                   bf16 numbers whose sum is an element
//   fragment(words, step, m, a) operand A of k16 step `step` of a slice, of its m-th number
//   place(row, k), value(bits)  one element of a block: where, and as f32 without its scale
//
// What they compute is said in stheno-codegen's layout. Activations are bf16 for every format.
#pragma once
#include "formats/float16.cuh"
#include "formats/fp8.cuh"
#include "formats/integer.cuh"
#include "mma.cuh"
#include "program.cuh"

// Scale (and 4 bytes after it the offset) of rows g and g + 8.
DEVICE u32 load_scales(u32 address) {
    u32 scales;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(scales) : "r"(address) : "memory");
    return scales;
}
DEVICE uint2 load_scales_and_offsets(u32 address) {
    uint2 both;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(both.x), "=r"(both.y) : "r"(address) : "memory");
    return both;
}

// What a lane holds of a warp's slice of a block: 16 rows, 64 columns.
template <typename F> struct Slice {
    uint4 words[F::BITS / 4];
    u32 scales[F::FOLDS], offsets[F::FOLDS];

    // From the shared address of a block of `columns` columns.
    METHOD void load(u32 block, u32 columns, u32 slice) {
        const u32 lane = threadIdx.x % 32;
        const u32 elements = block + slice * (TILE_ROWS * SLICE * F::BITS / 8) + lane * 16;
#pragma unroll
        for (u32 i = 0; i < F::BITS / 4; i++) words[i] = load_shared(elements + i * 512);
        if constexpr (F::SCALED) {
            const u32 first = block + TILE_ROWS * columns * F::BITS / 8 + lane / 4 * (F::GROUP_BYTES / 8);
#pragma unroll
            for (u32 fold = 0; fold < F::FOLDS; fold++) {
                const u32 at = first + F::group(slice, fold) * F::GROUP_BYTES;
                if constexpr (F::HAS_OFFSET) {
                    const uint2 both = load_scales_and_offsets(at);
                    scales[fold] = both.x;
                    offsets[fold] = both.y;
                } else {
                    scales[fold] = load_scales(at);
                }
            }
        }
    }
};

// Operand B of step `step` of a slice for fold `fold`. Groups of 16 are halves of a k32 block, lanes t < 2 and t >= 2; the
// other half is 0.
template <typename F> DEVICE uint2 fold_tokens(const uint4& both_steps, u32 step, u32 fold) {
    uint2 b = step % 2 ? make_uint2(both_steps.z, both_steps.w) : make_uint2(both_steps.x, both_steps.y);
    if (F::FOLDS == 4 && threadIdx.x % 4 / 2 != fold % 2) b = make_uint2(0, 0);
    return b;
}

// Steps of a slice that a fold sums.
template <typename F> struct FoldSteps {
    static constexpr u32 COUNT = F::FOLDS == 1 ? 4 : 2;
    static METHOD u32 first(u32 fold) { return F::FOLDS == 1 ? 0 : F::FOLDS == 2 ? fold * 2 : fold / 2 * 2; }
};

// Offsets multiply the sums of activations over each fold. They are the same for all tiles, so a warp takes them once a chunk
// and keeps them in shared memory of its own, f32 [fold][token]. `tokens` is [k32 block][row tile], `sums` the shared
// address for its first row tile, `stride` bytes from fold to fold.
template <typename F, u32 N> DEVICE void sum_tokens(const uint4 (&tokens)[2][N], u32 sums, u32 stride) {
    // 1 in bf16.
    const u32 ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 fold = 0; fold < F::FOLDS; fold++)
#pragma unroll
        for (u32 n = 0; n < N; n++) {
            float sum[4] = {};
#pragma unroll
            for (u32 i = 0; i < FoldSteps<F>::COUNT; i++) {
                const u32 step = FoldSteps<F>::first(fold) + i;
                const uint2 b = fold_tokens<F>(tokens[step / 2][n], step, fold);
                mma_bf16(sum, ones, b.x, b.y);
            }
            // All rows are alike, so are all lanes of a t.
            if (lane < 4)
                asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(sums + fold * stride + n * 32 + lane * 8),
                             "f"(sum[0]), "f"(sum[1])
                             : "memory");
        }
}
// Of tokens 2 t and 2 t + 1 of a row tile.
DEVICE float2 load_sums(u32 address) {
    float2 sums;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(sums.x), "=f"(sums.y) : "r"(address) : "memory");
    return sums;
}

// acc += slice * tokens for N row tiles. `a` is the decoded slice, `sums` as of sum_tokens.
template <typename F, u32 N>
DEVICE void multiply_slice(const Slice<F>& slice, const u32 (&a)[4][F::MULTIPLES][4], const uint4 (&tokens)[2][N],
                           u32 sums, u32 stride, float (*acc)[4]) {
    if constexpr (!F::SCALED) {
#pragma unroll
        for (u32 step = 0; step < 4; step++)
#pragma unroll
            for (u32 m = 0; m < F::MULTIPLES; m++)
#pragma unroll
                for (u32 n = 0; n < N; n++) {
                    const uint2 b = fold_tokens<F>(tokens[step / 2][n], step, 0);
                    mma_bf16(*(float(*)[4])acc[n], a[step][m], b.x, b.y);
                }
    } else {
#pragma unroll
        for (u32 fold = 0; fold < F::FOLDS; fold++) {
            float part[N][4] = {};
#pragma unroll
            for (u32 i = 0; i < FoldSteps<F>::COUNT; i++) {
                const u32 step = FoldSteps<F>::first(fold) + i;
#pragma unroll
                for (u32 n = 0; n < N; n++) {
                    const uint2 b = fold_tokens<F>(tokens[step / 2][n], step, fold);
                    mma_bf16(part[n], a[step][0], b.x, b.y);
                }
            }
            const float scale[2] = {f16_low(slice.scales[fold]), f16_high(slice.scales[fold])};
#pragma unroll
            for (u32 n = 0; n < N; n++)
#pragma unroll
                for (u32 i = 0; i < 4; i++) acc[n][i] = __fmaf_rn(scale[i / 2], part[n][i], acc[n][i]);
            if constexpr (F::HAS_OFFSET) {
                const float offset[2] = {f16_low(slice.offsets[fold]), f16_high(slice.offsets[fold])};
#pragma unroll
                for (u32 n = 0; n < N; n++) {
                    const float2 sum = load_sums(sums + fold * stride + n * 32 + threadIdx.x % 4 * 8);
#pragma unroll
                    for (u32 i = 0; i < 4; i++)
                        acc[n][i] = __fmaf_rn(offset[i / 2], i % 2 ? sum.y : sum.x, acc[n][i]);
                }
            }
        }
    }
}

// Element (row, k) of a block of `columns` columns in device memory: fma(code, scale, offset), or the element itself.
template <typename F> DEVICE float read_element(u64 block, u32 columns, u32 row, u32 k) {
    const u32 place = F::place(row, k);  // in bits
    const u32 word = load_constant(block + place / 32 * 4);
    const float code = F::value(word >> place % 32);
    if constexpr (F::SCALED) {
        const u64 at = block + TILE_ROWS * columns * F::BITS / 8 + F::group_of(k) * F::GROUP_BYTES +
                       row % 8 * (F::GROUP_BYTES / 8);
        const u32 scales = load_constant(at);
        const u32 offsets = F::HAS_OFFSET ? load_constant(at + 4) : 0;
        const float scale = row < 8 ? f16_low(scales) : f16_high(scales);
        return __fmaf_rn(code, scale, row < 8 ? f16_low(offsets) : f16_high(offsets));
    } else {
        return code;
    }
}
