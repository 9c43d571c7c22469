// Attention of up to 16 draft-tree nodes over a context and over each other, bf16, one kv pass (online softmax).
// q, out (nodes, heads, 64); k, v (kv_heads, context + nodes, 64): the tree's own keys follow the context's;
// ancestors (nodes,): bit j of word i says that node i sees node j; a node always sees itself. heads is a multiple of
// kv_heads. scale_log2 = log2(e) / sqrt(64).
// The 4 warps of a block take keys 16 at a time in turn, each with its own running maximum; at the end they merge.
// Grid: (heads). Block: 128.

typedef unsigned short bf16;

constexpr int DIM = 64, ROWS = 16, KEYS = 16, WARPS = 4, PITCH = DIM + 8;
constexpr float MASKED = -1.0e30f; // finite: a warp that saw no key merges with weight 0, not NaN

struct Stage {
    bf16 k[KEYS][PITCH], v[KEYS][PITCH];
};

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void load_rows(unsigned (&r)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(from))
                 : "memory");
}

__device__ __forceinline__ void load_columns(unsigned (&r)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(from))
                 : "memory");
}

__device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}

__device__ __forceinline__ float quad_sum(float v) {
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

// 16 rows of one warp's tile; rows past the end become zeros.
__device__ __forceinline__ void copy_rows(bf16 (*to)[PITCH], const bf16* from, int first, int rows, int lane) {
#pragma unroll
    for (int i = lane; i < KEYS * DIM / 8; i += 32) {
        const int row = i / (DIM / 8), col = i % (DIM / 8) * 8;
        const bool valid = first + row < rows;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(&to[row][col])),
                     "l"(valid ? from + (size_t)(first + row) * DIM + col : from), "r"(valid ? 16 : 0)
                     : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

extern "C" __global__ void __launch_bounds__(WARPS * 32)
tree_attention(const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v,
               const unsigned* __restrict__ ancestors, bf16* __restrict__ out, int nodes, int heads, int kv_heads,
               int context, float scale_log2) {
    __shared__ __align__(16) Stage stages[WARPS];
    __shared__ __align__(8) float warp_out[WARPS][ROWS][DIM];
    __shared__ float warp_max[WARPS][ROWS], warp_total[WARPS][ROWS];
    const int head = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane / 4, t = lane % 4;
    const int keys = context + nodes;
    k += (size_t)(head / (heads / kv_heads)) * keys * DIM;
    v += (size_t)(head / (heads / kv_heads)) * keys * DIM;
    Stage& stage = stages[warp];

    // This lane's two rows of Q: the fragments of 4 steps of 16 dimensions.
    unsigned qf[DIM / 16][4];
    unsigned visible[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = quad + half * 8;
        const unsigned* source = reinterpret_cast<const unsigned*>(q + ((size_t)row * heads + head) * DIM);
        visible[half] = row < nodes ? ancestors[row] | 1u << row : 0;
#pragma unroll
        for (int step = 0; step < DIM / 16; step++) {
            qf[step][half] = row < nodes ? source[step * 8 + t] : 0;
            qf[step][half + 2] = row < nodes ? source[step * 8 + t + 4] : 0;
        }
    }

    float sum[DIM / 8][4] = {};
    float top[2] = {MASKED, MASKED}, total[2] = {0.0f, 0.0f};
    for (int first = warp * KEYS; first < keys; first += WARPS * KEYS) {
        __syncwarp(); // every lane is done with the tile before it is overwritten
        copy_rows(stage.k, k, first, keys, lane);
        copy_rows(stage.v, v, first, keys, lane);
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncwarp();

        float score[2][4] = {};
#pragma unroll
        for (int step = 0; step < DIM / 16; step++) {
            unsigned kf[4];
            load_rows(kf, &stage.k[lane % 8 + lane / 16 * 8][step * 16 + lane / 8 % 2 * 8]);
            multiply(score[0], qf[step], kf[0], kf[1]);
            multiply(score[1], qf[step], kf[2], kf[3]);
        }

        float highest[2] = {MASKED, MASKED};
#pragma unroll
        for (int tile = 0; tile < 2; tile++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int node = first + tile * 8 + t * 2 + i % 2 - context;
                const bool seen = node < 0 || (node < nodes && visible[i / 2] >> node & 1);
                score[tile][i] = seen ? score[tile][i] * scale_log2 : MASKED;
                highest[i / 2] = fmaxf(highest[i / 2], score[tile][i]);
            }
        float shrink[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float raised = fmaxf(top[half], quad_max(highest[half]));
            shrink[half] = power_of_two(top[half] - raised);
            top[half] = raised;
            total[half] *= shrink[half];
        }
#pragma unroll
        for (int tile = 0; tile < 2; tile++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                score[tile][i] = power_of_two(score[tile][i] - top[i / 2]);
                total[i / 2] += score[tile][i];
            }
        // The sums' layout of two 8-key tiles is the left operand's layout of one 16-key step.
        const unsigned p[4] = {pack_bf16(score[0][0], score[0][1]), pack_bf16(score[0][2], score[0][3]),
                               pack_bf16(score[1][0], score[1][1]), pack_bf16(score[1][2], score[1][3])};

        asm volatile("cp.async.wait_group 0;" ::: "memory");
        __syncwarp();
#pragma unroll
        for (int tile = 0; tile < DIM / 8; tile += 2) {
            unsigned vf[4];
            load_columns(vf, &stage.v[lane % 16][tile * 8 + lane / 16 * 8]);
#pragma unroll
            for (int j = 0; j < 2; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) sum[tile + j][i] *= shrink[i / 2];
                multiply(sum[tile + j], p, vf[2 * j], vf[2 * j + 1]);
            }
        }
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = quad + half * 8;
        const float row_total = quad_sum(total[half]);
        if (t == 0) {
            warp_max[warp][row] = top[half];
            warp_total[warp][row] = row_total;
        }
#pragma unroll
        for (int tile = 0; tile < DIM / 8; tile++)
            *reinterpret_cast<float2*>(&warp_out[warp][row][tile * 8 + t * 2]) = {sum[tile][half * 2],
                                                                                  sum[tile][half * 2 + 1]};
    }
    __syncthreads();

    for (int i = threadIdx.x; i < nodes * DIM / 2; i += WARPS * 32) {
        const int row = i / (DIM / 2), col = i % (DIM / 2) * 2;
        float highest = MASKED;
#pragma unroll
        for (int w = 0; w < WARPS; w++) highest = fmaxf(highest, warp_max[w][row]);
        float low = 0.0f, high = 0.0f, weight_sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float weight = power_of_two(warp_max[w][row] - highest);
            const float2 part = *reinterpret_cast<const float2*>(&warp_out[w][row][col]);
            low += weight * part.x;
            high += weight * part.y;
            weight_sum += weight * warp_total[w][row];
        }
        *reinterpret_cast<unsigned*>(out + ((size_t)row * heads + head) * DIM + col) =
            pack_bf16(low / weight_sum, high / weight_sum);
    }
}
