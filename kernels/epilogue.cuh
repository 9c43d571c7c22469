// What becomes of the products of a linear op. The 16 rows of a tile and one token are in 16 lanes that follow each other.
#pragma once
#include "activation.cuh"
#include "best.cuh"
#include "residual.cuh"
#include "view.cuh"

// Activations that the program's phases have in an epilogue of a kind, a bit each: code of others is not compiled. EPILOGUES has a
// bit for each pair of the two that occurs.
static_assert(ACTIVATION_GELU_TANH == 2, "three activations, of which codegen knows");
CONSTANT u32 activations_of(u32 kind) { return EPILOGUES >> kind * 3 & 7; }
// What is added to the residual goes the way of what begins it.
constexpr u32 OF_RESIDUAL = activations_of(EPILOGUE_RESIDUAL) | activations_of(EPILOGUE_BEGIN);
constexpr u32 OF_GATED = activations_of(EPILOGUE_GATED);

// What products of a phase go through, asked once for all of them.
struct Epilogue {
    u32 kind, activation, part_count, rows;
    bool has_scales;
    u64 output;          // address: rows, qkv, gated
    u32 output_columns;
    View view;           // residual

    // `row_tiles` are those of the rows that the phase works on.
    METHOD Epilogue(const Program& program, const Shared& shared, u32 row_tiles) {
        const LinearPhase& phase = shared.phase.linear;
        kind = phase.epilogue;
        activation = phase.activation;
        part_count = phase.part_count;
        rows = phase_rows(shared);
        has_scales = phase.stats != NONE;
        output = program.workspace + phase.output;
        output_columns = phase.output_columns;
        view = {phase.view, phase.view_weight, phase.view_stats, phase.view_tiles, row_tiles};
    }

    // Part of row r of a tile.
    METHOD const Part& part_of(const Shared& shared, u32 tile, u32 r) const {
        const LinearPhase& phase = shared.phase.linear;
        u32 index = 0;
        if (kind == EPILOGUE_GATED) index = r / 8;
        else
            while (index + 1 < part_count && phase.parts[index + 1].first_tile <= tile) index++;
        return phase.parts[index];
    }
};

// A product: row r of tile `tile` of the stack, the block's tile `local`; `sum` is what the warps have added up, `y` what becomes
// of it.
struct Product {
    u32 tile, local, token;
    float sum, y;
    u32 n;       // row of the matrix
    u32 column;  // of the output
    bool live;   // there is such a row and token
};

// N products of a thread at a time, so that what they wait for is under way together. The whole warp calls; r is the same of all.
template <u32 N>
DEVICE void finish(const Program& program, Shared& shared, const Epilogue& epilogue, u32 r, Product (&products)[N]) {
    const bool gated = epilogue.kind == EPILOGUE_GATED;
#pragma unroll
    for (u32 i = 0; i < N; i++) {
        Product& of = products[i];
        const Part& part = epilogue.part_of(shared, of.tile, r);
        of.n = gated ? (of.tile - part.first_tile) * 8 + r % 8 : (of.tile - part.first_tile) * TILE_ROWS + r;
        of.live = of.live && of.token < epilogue.rows && of.n < part.n;
        of.column = part.column + of.n;
        const u32 bias = part.bias;
        of.y = times_power_of_two(of.sum, part.exponent);
        if (of.live && epilogue.has_scales) of.y = __fmul_rn(of.y, shared.row_scales[of.token]);
        if (of.live && bias != NONE) of.y = __fadd_rn(of.y, load_constant_float(program.constants + bias + of.n * 4));
    }
    switch (epilogue.kind) {
        case EPILOGUE_ROWS:
            if (keeps_likeliest(shared)) {
#pragma unroll
                for (u32 i = 0; i < N; i++)
                    keep_tile(program, shared, products[i].column, products[i].token, products[i].y, products[i].live);
                break;
            }
            // Logits that are all wanted, or rows for a copy, are stored as q, k and v are.
        case EPILOGUE_QKV:
#pragma unroll
            for (u32 i = 0; i < N; i++) {
                const Product& of = products[i];
                if (of.live) store_float(epilogue.output + ((u64)of.token * epilogue.output_columns + of.column) * 4, of.y);
            }
            if (epilogue.kind == EPILOGUE_ROWS && shared.phase.linear.best != NONE)
#pragma unroll
                for (u32 i = 0; i < N; i++)
                    keep_best(shared, r, products[i].column, products[i].token, products[i].y, products[i].live);
            break;
        case EPILOGUE_RESIDUAL:
        case EPILOGUE_BEGIN: {
            float weights[N], residuals[N];
#pragma unroll
            for (u32 i = 0; i < N; i++) {
                const Product& of = products[i];
                residuals[i] = weights[i] = 0.0f;
                if (!of.live) continue;
                weights[i] = epilogue.view.weight == NONE ? 1.0f
                             : of.local < VIEW_TILES ? shared.view_weights[of.local * TILE_ROWS + r]
                                                     : view_weight(program, epilogue.view, of.tile * TILE_ROWS + r);
                const float before = epilogue.kind == EPILOGUE_BEGIN ? 0.0f : residual_row(of.local, of.token)[r];
                residuals[i] = __fadd_rn(before, activate<OF_RESIDUAL>(epilogue.activation, of.y));
            }
#pragma unroll
            for (u32 i = 0; i < N; i++) {
                const Product& of = products[i];
                if (of.live) residual_row(of.local, of.token)[r] = residuals[i];
                write_view(program, epilogue.view, of.tile, r, of.token, weights[i], residuals[i], of.live);
            }
            break;
        }
        case EPILOGUE_GATED: {
            u32 words[N];
#pragma unroll
            for (u32 i = 0; i < N; i++) {
                const Product& of = products[i];
                const float up = __shfl_down_sync(ALL_LANES, of.y, 8);
                // Rows that pad are 0: their weights are.
                const float value = of.live && r < 8 ? __fmul_rn(activate<OF_GATED>(epilogue.activation, of.y), up) : 0.0f;
                words[i] = pack_bf16(value, __shfl_down_sync(ALL_LANES, value, 1));
            }
#pragma unroll
            for (u32 i = 0; i < N; i++) {
                const Product& of = products[i];
                if (of.live && r < 8 && r % 2 == 0)
                    store_word(epilogue.output + b_order(of.n, of.token, epilogue.view.row_tiles), words[i]);
            }
            break;
        }
    }
}
