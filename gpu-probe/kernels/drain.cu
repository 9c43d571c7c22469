// How fast consumers eat stages that are in shared memory already: wait, read, decode, multiply, give back. Weights lie in
// the order that stheno-codegen's layout documents, chunks of 512 columns, groups of 128 without offset for int4, whole
// rows for fp8; activations are bf16.
#include "probe.cuh"
#include "mma.cuh"

#define BF16 0
#define FP8 1
#define INT4 2
#define TILES 4u
#define CHUNK 512u
#define WARPS 8u

struct DrainArguments {
    u64 weights;      // `stages` stages
    u64 activations;  // [k32 block][token / 8][lane][16 bytes] of one chunk
    u64 results;      // f32 [block][tile][row][token]
    u64 stamps;       // Stamp a block
    u64 fault;
    u32 stages;       // a multiple of the stages that TILES tiles take
    u32 count;        // chunks
};

// int4: a word is step w of the lane's atom.
DEVICE void decode_int4(u32 word, u32 (&a)[4]) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 shifted;
        asm("lop3.b32 %0, %1, 0x000f000f, 0x43004300, 0xea;" : "=r"(shifted) : "r"(word >> 4 * i));
        // 1 * x - 136, exact.
        asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(a[i]) : "r"(shifted), "r"(0x3f803f80u), "r"(0xc308c308u));
    }
}

// Two e4m3 codes to two bf16, by way of f16 and f32; all exact.
DEVICE u32 decode_fp8_pair(u32 codes) {
    u32 halves;
#if __CUDA_ARCH__ >= 890
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.rn.f16x2.e4m3x2 %0, low; }" : "=r"(halves) : "r"(codes));
#else
    const u32 apart = (codes & 0xff) | (codes & 0xff00) << 8;
    const u32 bits = (apart & 0x00800080) << 8 | (apart & 0x007f007f) << 7;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(halves) : "r"(bits), "r"(0x5c005c00u));
#endif
    u32 result;
    asm("{ .reg .b16 low, high; .reg .f32 x, y; mov.b32 {low, high}, %1; cvt.f32.f16 x, low; cvt.f32.f16 y, high; "
        "cvt.rn.bf16x2.f32 %0, y, x; }"
        : "=r"(result)
        : "r"(halves));
    return result;
}

DEVICE float f16_value(u32 bits) {
    float value;
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low; }" : "=f"(value) : "r"(bits));
    return value;
}

template <int FORMAT> struct Block;
template <> struct Block<BF16> { static constexpr u32 atoms = 4, bytes = 16384, tiles_per_stage = 1; };
template <> struct Block<FP8> { static constexpr u32 atoms = 2, bytes = 8192 + 32, tiles_per_stage = 2; };
template <> struct Block<INT4> { static constexpr u32 atoms = 1, bytes = 4096 + 4 * 32, tiles_per_stage = 4; };

// One warp's slice of a block, 64 columns, times NT * 8 tokens.
template <int FORMAT, int NT>
DEVICE void multiply(u32 block, u32 warp, u32 lane, const uint4 (&b)[2][NT], float (&acc)[NT][4]) {
    const u32 atoms = block + warp * Block<FORMAT>::atoms * 512 + lane * 16;
    float part[NT][4] = {};
#pragma unroll
    for (u32 step = 0; step < 4; step++) {
        u32 a[4];
        if (FORMAT == BF16) {
            const uint4 word = load_shared(atoms + step * 512);
            a[0] = word.x, a[1] = word.y, a[2] = word.z, a[3] = word.w;
        } else if (FORMAT == FP8) {
            const uint4 word = load_shared(atoms + step / 2 * 512);
            const u32 first = step % 2 ? word.z : word.x, second = step % 2 ? word.w : word.y;
            a[0] = decode_fp8_pair(first), a[1] = decode_fp8_pair(first >> 16);
            a[2] = decode_fp8_pair(second), a[3] = decode_fp8_pair(second >> 16);
        } else {
            const uint4 word = load_shared(atoms);
            decode_int4(step == 0 ? word.x : step == 1 ? word.y : step == 2 ? word.z : word.w, a);
        }
#pragma unroll
        for (u32 n = 0; n < NT; n++) {
            const uint4 tokens = b[step / 2][n];
            float(&c)[4] = FORMAT == BF16 ? acc[n] : part[n];
            if (step % 2 == 0) mma_bf16(c, a, tokens.x, tokens.y);
            else mma_bf16(c, a, tokens.z, tokens.w);
        }
    }
    if (FORMAT == BF16) return;
    // A group of 128 columns is two warps' slices; whole rows have one group.
    const u32 group = FORMAT == INT4 ? warp / 2 : 0;
    u32 scales;
    asm volatile("ld.shared.u32 %0, [%1];"
                 : "=r"(scales)
                 : "r"(block + WARPS * Block<FORMAT>::atoms * 512 + group * 32 + lane / 4 * 4)
                 : "memory");
    const float upper = f16_value(scales), lower = f16_value(scales >> 16);
#pragma unroll
    for (u32 n = 0; n < NT; n++) {
        acc[n][0] = __fmaf_rn(upper, part[n][0], acc[n][0]);
        acc[n][1] = __fmaf_rn(upper, part[n][1], acc[n][1]);
        acc[n][2] = __fmaf_rn(lower, part[n][2], acc[n][2]);
        acc[n][3] = __fmaf_rn(lower, part[n][3], acc[n][3]);
    }
}

template <int FORMAT, int NT> DEVICE void drain_run(const DrainArguments& arguments) {
    typedef Block<FORMAT> Shape;
    extern __shared__ __align__(1024) unsigned char data[];
    __shared__ u64 full[16], empty[16];
    const u32 stage_bytes = Shape::bytes * Shape::tiles_per_stage, tokens = NT * 8;
    const u32 thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const u32 weight_bytes = arguments.stages * stage_bytes, activation_bytes = CHUNK * tokens * 2;
    for (u32 at = thread * 16; at < weight_bytes; at += 16 * 32 * WARPS)
        *(uint4*)(data + at) = *(const uint4*)(arguments.weights + at);
    for (u32 at = thread * 16; at < activation_bytes; at += 16 * 32 * WARPS)
        *(uint4*)(data + weight_bytes + at) = *(const uint4*)(arguments.activations + at);
    if (thread < arguments.stages) {
        mbarrier_init(shared_address(full + thread), 1);
        mbarrier_init(shared_address(empty + thread), WARPS);
        mbarrier_init_fence();
    }
    __syncthreads();

    const u32 ring = shared_address(data), activations = ring + weight_bytes + lane * 16;
    float acc[TILES][NT][4] = {};
    u32 stage = 0;
    const Stamp stamp = stamp_begin();
#pragma unroll 1
    for (u32 chunk = 0; chunk < arguments.count; chunk++) {
        uint4 b[2][NT];
#pragma unroll
        for (u32 half = 0; half < 2; half++)
#pragma unroll
            for (u32 n = 0; n < NT; n++) b[half][n] = load_shared(activations + ((warp * 2 + half) * NT + n) * 512);
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) {
            // The phase before the first counts as complete, so that this wait never blocks and costs what it costs.
            if (tile % Shape::tiles_per_stage == 0)
                mbarrier_wait(shared_address(full + stage), 1, arguments.fault, WAIT_FULL);
            const u32 block = ring + stage * stage_bytes + tile % Shape::tiles_per_stage * Shape::bytes;
            multiply<FORMAT, NT>(block, warp, lane, b, acc[tile]);
            if (tile % Shape::tiles_per_stage == Shape::tiles_per_stage - 1) {
                __syncwarp();
                if (lane == 0) mbarrier_arrive(shared_address(empty + stage));
                if (++stage == arguments.stages) stage = 0;
            }
        }
    }
    __syncthreads();
    if (thread == 0) stamp_end(stamp, arguments.count, arguments.stamps);

    // Sums over the warps, in ascending order, through the memory that held the weights.
    float* partial = (float*)data;
    const u32 outputs = TILES * 16 * tokens;
#pragma unroll
    for (u32 tile = 0; tile < TILES; tile++)
#pragma unroll
        for (u32 n = 0; n < NT; n++)
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                const u32 row = lane / 4 + j / 2 * 8, token = n * 8 + lane % 4 * 2 + j % 2;
                partial[warp * outputs + (tile * 16 + row) * tokens + token] = acc[tile][n][j];
            }
    __syncthreads();
    float* results = (float*)arguments.results + blockIdx.x * outputs;
    for (u32 i = thread; i < outputs; i += 32 * WARPS) {
        float sum = partial[i];
        for (u32 other = 1; other < WARPS; other++) sum += partial[other * outputs + i];
        results[i] = sum;
    }
}

#define DRAIN(NAME, FORMAT, NT) \
    KERNEL __launch_bounds__(256, 1) NAME(const DrainArguments arguments) { drain_run<FORMAT, NT>(arguments); }

DRAIN(drain_bf16_8, BF16, 1)
DRAIN(drain_bf16_16, BF16, 2)
DRAIN(drain_bf16_32, BF16, 4)
DRAIN(drain_fp8_8, FP8, 1)
DRAIN(drain_fp8_16, FP8, 2)
DRAIN(drain_fp8_32, FP8, 4)
DRAIN(drain_int4_8, INT4, 1)
DRAIN(drain_int4_16, INT4, 2)
DRAIN(drain_int4_32, INT4, 4)
