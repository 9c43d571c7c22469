// What becomes of the products of a linear op. The 16 rows of a tile and one token are in 16 lanes that follow each other.
#pragma once
#include "activation.cuh"
#include "order.cuh"
#include "residual.cuh"
#include "view.cuh"

// shared.best[token] = the largest of itself and these 16 logits: the ordered logit above, ~column below, so that of equal
// logits the smallest column stays.
DEVICE void keep_best(Shared& shared, u32 r, u32 column, u32 token, float logit, bool live) {
    const u32 key = live ? ordered(finite_logit(logit)) : 0;
    // Few logits are larger than all before them.
    u64 before;
    asm volatile("ld.relaxed.cta.shared.u64 %0, [%1];" : "=l"(before) : "r"(shared_address(shared.best + token)) : "memory");
    if (!__any_sync(ALL_LANES, live && ((u64)key << 32 | ~column) > before)) return;
    u32 largest = key;
#pragma unroll
    for (u32 distance = 8; distance > 0; distance /= 2)
        largest = larger(largest, __shfl_xor_sync(ALL_LANES, largest, distance));
    const u32 equal = __ballot_sync(ALL_LANES, key == largest) >> (threadIdx.x & 16) & 0xffff;
    if (live && r == (u32)__ffs(equal) - 1) atomicMax(&shared.best[token], (u64)key << 32 | ~column);
}

// Largest keys of nothing. By all consumers; nobody may be in keep_best.
DEVICE void begin_best(Shared& shared) {
    if (threadIdx.x < ROW_LIMIT) shared.best[threadIdx.x] = 0;
}

// best[row][block], after a barrier behind the last keep_best. By all consumers.
DEVICE void store_best(const Program& program, const Shared& shared) {
    const u32 row = threadIdx.x;
    if (row < shared.call.output_rows)
        *(u64*)(program.workspace + shared.phase.linear.best + ((u64)row * gridDim.x + blockIdx.x) * 8) = shared.best[row];
}

// One product: row r of tile `tile` of the stack, the block's tile `local`; `sum` is what the warps have added up.
// `row_tiles` are those of the rows that the phase works on. The whole warp calls.
DEVICE void finish(const Program& program, Shared& shared, u32 tile, u32 local, u32 r, u32 token, u32 row_tiles,
                   float sum) {
    const LinearPhase& phase = shared.phase.linear;
    const u32 rows = phase_rows(shared);
    const bool gated = phase.epilogue == EPILOGUE_GATED;
    u32 index = 0;
    if (gated) index = r / 8;
    else
        while (index + 1 < phase.part_count && phase.parts[index + 1].first_tile <= tile) index++;
    const Part& part = phase.parts[index];
    // Row of the matrix.
    const u32 n = gated ? (tile - part.first_tile) * 8 + r % 8 : (tile - part.first_tile) * TILE_ROWS + r;
    const bool live = token < rows && n < part.n;
    float y = times_power_of_two(sum, part.exponent);
    if (live && phase.stats != NONE) y = __fmul_rn(y, shared.row_scales[token]);
    if (live && part.bias != NONE) y = __fadd_rn(y, load_constant_float(program.constants + part.bias + n * 4));
    switch (phase.epilogue) {
        case EPILOGUE_ROWS:
        case EPILOGUE_QKV: {
            const u32 column = part.column + n;
            if (live)
                store_float(program.workspace + phase.output + ((u64)token * phase.output_columns + column) * 4, y);
            if (phase.epilogue == EPILOGUE_ROWS && phase.best != NONE) keep_best(shared, r, column, token, y, live);
            break;
        }
        case EPILOGUE_RESIDUAL:
        case EPILOGUE_BEGIN: {
            float residual = 0.0f;
            if (live) {
                float* at = residual_row(local, token) + r;
                const float before = phase.epilogue == EPILOGUE_BEGIN ? 0.0f : *at;
                residual = *at = __fadd_rn(before, activate(phase.activation, y));
            }
            const View view = {phase.view, phase.view_weight, phase.view_stats, phase.view_tiles, row_tiles};
            write_view(program, view, tile, r, token, residual, live);
            break;
        }
        case EPILOGUE_GATED: {
            const float up = __shfl_down_sync(ALL_LANES, y, 8);
            // Rows that pad are 0: their weights are.
            const float value = live && r < 8 ? __fmul_rn(activate(phase.activation, y), up) : 0.0f;
            const float next = __shfl_down_sync(ALL_LANES, value, 1);
            if (live && r < 8 && r % 2 == 0)
                store_word(program.workspace + phase.output + b_order(n, token, row_tiles), pack_bf16(value, next));
            break;
        }
    }
}
