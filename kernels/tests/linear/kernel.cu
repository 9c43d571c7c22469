// Phases of one format as a persistent kernel runs them: with the tape of their weights.
#include "copy_rows.cuh"
#include "embed.cuh"
#include "linear.cuh"

typedef FORMAT F;

DEVICE const Phase& phase_of(const Program& program, u32 index) { return ((const Phase*)program.phases)[index]; }
DEVICE Span span_of(const Program& program, u32 index) {
    return ((const Span*)program.spans)[blockIdx.x * program.span_count + index];
}
DEVICE Shared& shared_of() {
    return *(Shared*)shared_region(SHARED_AT);
}
DEVICE u32 row_tiles_of(const Call& call, u32 rows) { return rows == ROWS_ALL ? call.row_tiles : call.output_tiles; }

// Stages of a block's tape, at most.
#define TAPE_ROOM 8192u

// Writes the stages of a run of `blocks` blocks that follow each other.
DEVICE void write_run(Stage* stages, u32& count, u64 from, u32 blocks, u32 bytes, u32 fit) {
    for (u32 block = 0; block < blocks; block += fit)
        stages[count++] = {from + (u64)block * bytes, smaller(fit, blocks - block) * bytes, 0};
}

// Writes the stages of a span as ring.cuh says that they lie, `width` tiles of a group at a time.
DEVICE void write_span(Stage* stages, u32& count, u64 from, u32 k, u32 tiles, u32 width) {
    const u32 chunks = k / CHUNK, tail = k % CHUNK;
    const u32 bytes = block_bytes<F>(CHUNK), tail_bytes = tail ? block_bytes<F>(tail) : 0;
    for (u32 first = 0, group = 0; first < tiles; first += group) {
        group = group_of(tiles - first);
        const u64 short_chunk = from + (u64)chunks * group * bytes;
        if (width >= group) {
            write_run(stages, count, from, group * chunks, bytes, unit_of<F>());
            if (tail) write_run(stages, count, short_chunk, group, tail_bytes, unit_of<F>());
        } else {
            for (u32 tile = 0; tile < group; tile += width) {
                const u32 part = smaller(width, group - tile);
                for (u32 chunk = 0; chunk < chunks; chunk++)
                    write_run(stages, count, from + (u64)(chunk * group + tile) * bytes, part, bytes, unit_of<F>());
                if (tail) write_run(stages, count, short_chunk + tile * tail_bytes, part, tail_bytes, unit_of<F>());
            }
        }
        from = short_chunk + group * tail_bytes;
    }
}

DEVICE void begin(const Program& program, Shared& shared) {
    for (u32 i = threadIdx.x; i < sizeof(Call) / 4; i += THREADS) ((u32*)&shared.call)[i] = ((const u32*)program.control)[i];
    if (threadIdx.x == 0) ring_init(shared);
    __syncthreads();
    const u64 tape = program.stages + (u64)blockIdx.x * TAPE_ROOM * sizeof(Stage);
    if (threadIdx.x == 0) {
        u32 count = 0;
        for (u32 i = program.phase_begin; i < program.phase_end; i++) {
            const Phase& phase = phase_of(program, i);
            if (phase.kind != PHASE_LINEAR) continue;
            const Span span = span_of(program, phase.linear.span);
            const u32 width = group_width(row_tiles_of(shared.call, phase.linear.input_rows));
            write_span((Stage*)tape, count, span.offset, phase.linear.k, span_tiles(span), width);
        }
        shared.words[0] = count;
    }
    // What thread 0 wrote is read as if it had always been there, by copies too.
    __threadfence();
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async;" ::: "memory");
#endif
    __syncthreads();
    begin_tape(program, shared, {tape, shared.words[0]}, {0, 0});
}

DEVICE void enter(const Program& program, Shared& shared, u32 index) {
    // Orders the last phase's reads of the phase before it is overwritten, and the writes before all read it.
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    if (threadIdx.x == 0) shared.index = index;
    if (threadIdx.x < sizeof(Phase) / 4)
        ((u32*)&shared.phase)[threadIdx.x] = ((const u32*)&phase_of(program, index))[threadIdx.x];
    barrier(CONSUMER_BARRIER, CONSUMER_THREADS);
    wait_edge(program, shared.phase, shared.call.run);
}

#ifdef ONLY
// Calls of that many row tiles alone, for reports of registers.
KERNEL __launch_bounds__(THREADS, 1) only_rows(const Program program) {
    Shared& shared = shared_of();
    begin(program, shared);
    for (u32 i = program.phase_begin; i < program.phase_end; i++) {
        enter(program, shared, i);
        Reader reader = take_reader(shared);
        linear_rows<F, ONLY>(program, shared, reader, span_of(program, shared.phase.linear.span));
        keep_reader(shared, reader);
        arrive_edge(program, shared.phase);
    }
}
#else
KERNEL __launch_bounds__(THREADS, 1) phases(const Program program) {
    Shared& shared = shared_of();
    begin(program, shared);
    for (u32 i = program.phase_begin; i < program.phase_end; i++) {
        enter(program, shared, i);
        switch (shared.phase.kind) {
            case PHASE_EMBED:
                if (shared.phase.embed.stack == NONE) embed_rows(program, shared);
                else embed_tiles<F>(program, shared);
                break;
            case PHASE_LINEAR: linear<F>(program, shared, span_of(program, shared.phase.linear.span)); break;
            case PHASE_NARROW: narrow_residual(shared); break;
            case PHASE_EXPORT: export_residual(program, shared); break;
        }
        arrive_edge(program, shared.phase);
    }
}
#endif
