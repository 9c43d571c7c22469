// Partial results: where they lie, and how the last item of a row block and head makes the output of them.
//
// In the workspace from AttentionPhase::partials: f32 [kv head][piece][query row][head_dim + 4], query rows being those
// of the KV head; of a row head_dim sums of weights times V, the sum of weights, the largest score, and two that are
// not used.
#pragma once
#include "attention_split.cuh"
#include "attention_sums.cuh"

template <u32 HEAD_DIM>
DEVICE u64 partial_address(const Program& program, const AttentionPhase& phase, const Split& split, u32 head, u32 piece,
                           u32 row) {
    const u64 index = ((u64)head * split.count + piece) * split.rows + row;
    return program.workspace + phase.partials + index * (HEAD_DIM + 4) * 4;
}

// Of a channel of a query row in the output, which lies in B order: even channels, 4 bytes; multiples of 4, 8 bytes.
template <u32 HEAD_DIM>
DEVICE u64 output_address(const Program& program, const Shared& shared, const Split& split, u32 head, u32 query_row,
                          u32 channel) {
    const AttentionPhase& phase = shared.phase.attention;
    const u32 row = split.node_of(query_row);
    const u32 column = (head * phase.group + query_row - row * phase.group) * HEAD_DIM + channel;
    const u32 lane = row % 8 * 4 + column % 32 / 8;
    const u32 piece = (column / 32 * shared.call.row_tiles + row / 8) * 32 + lane;
    return program.workspace + phase.output + (u64)piece * 16 + column % 8 * 2;
}

// 1 / weight of a row, which sees itself at least.
DEVICE float normaliser(float weight) { return __frcp_rn(weight); }

// Four channels of a query row.
struct Quarter {
    float output[4];
    float weight, largest;

    METHOD void clear() {
        output[0] = output[1] = output[2] = output[3] = weight = 0.0f;
        largest = SEES_NOTHING;
    }
    METHOD void merge(const Quarter& later) {
        const Merge merge = merge_of(largest, later.largest);
        largest = top_of(largest, later.largest);
        weight = merge(weight, later.weight);
#pragma unroll
        for (u32 i = 0; i < 4; i++) output[i] = merge(output[i], later.output[i]);
    }
};

DEVICE Quarter load_quarter(u64 row, u32 channel, u32 head_dim) {
    const uint4 o = load_l2_vector(row + channel * 4), rest = load_l2_vector(row + head_dim * 4);
    return {{float_of(o.x), float_of(o.y), float_of(o.z), float_of(o.w)}, float_of(rest.x), float_of(rest.y)};
}

// All pieces of query rows `first` to `last - 1`.
template <u32 HEAD_DIM>
DEVICE_CALL void merge_partials(const Program& program, const Shared& shared, const Split& split, u32 head, u32 first,
                                u32 last) {
    constexpr u32 QUARTERS = HEAD_DIM / 4;
    constexpr u32 AHEAD = 8;  // pieces under way at once: those that make one of the next level
    static_assert(SUPER_SHIFT - SEGMENT_SHIFT == 3 && SPAN_SHIFT - SUPER_SHIFT == 3, "levels of eight");
    const AttentionPhase& phase = shared.phase.attention;
    const u64 stride = partial_address<HEAD_DIM>(program, phase, split, 0, 1, 0) -
                       partial_address<HEAD_DIM>(program, phase, split, 0, 0, 0);
#pragma unroll 1
    for (u32 task = threadIdx.x; task < (last - first) * QUARTERS; task += CONSUMER_THREADS) {
        const u32 row = first + task / QUARTERS, channel = task % QUARTERS * 4;
        u64 from = partial_address<HEAD_DIM>(program, phase, split, head, 0, row);
        // Segments become super-segments, and those spans; spans are merged as they come.
        const bool is_span = split.shift == SPAN_SHIFT;
        Quarter joined, spans, all;  // of the pieces of the next level so far, of the span so far, and all before
        joined.clear();
        spans.clear();
        all.clear();
#pragma unroll 1
        for (u32 piece = 0; piece < split.count;) {
            // Pieces up to the end of what the next level has: levels are of eight each.
            const u32 here = smaller(AHEAD - (split.first + piece) % AHEAD, split.count - piece);
            Quarter pieces[AHEAD];
#pragma unroll
            for (u32 i = 0; i < AHEAD; i++) {
                pieces[i].clear();
                if (i < here) pieces[i] = load_quarter(from + i * stride, channel, HEAD_DIM);
            }
#pragma unroll
            for (u32 i = 0; i < AHEAD; i++) {
                if (i >= here) break;
                joined.merge(pieces[i]);
            }
            from += here * stride;
            piece += here;
            if (is_span) continue;
            spans.merge(joined);
            joined.clear();
            // Ends of spans by the absolute position where the pieces end.
            if (piece < split.count && (split.first + piece) << split.shift & ((1u << SPAN_SHIFT) - 1)) continue;
            all.merge(spans);
            spans.clear();
        }
        if (is_span) all = joined;
        const float factor = normaliser(all.weight);
        uint2 words;
        words.x = pack_bf16(__fmul_rn(all.output[0], factor), __fmul_rn(all.output[1], factor));
        words.y = pack_bf16(__fmul_rn(all.output[2], factor), __fmul_rn(all.output[3], factor));
        *(uint2*)output_address<HEAD_DIM>(program, shared, split, head, row, channel) = words;
    }
}
