// All SMs read the same bytes out of L2, as all blocks read a layer's activations.
#include "probe.cuh"

struct BroadcastArguments {
    u64 from;
    u64 sums;    // u32 a block
    u64 stamps;  // Stamp a block
    u32 vectors; // of 16 bytes; a multiple of 4096
    u32 rounds;
};

KERNEL __launch_bounds__(512, 1) broadcast(const BroadcastArguments arguments) {
    const Stamp stamp = stamp_begin();
    u32 sum = 0;
    for (u32 round = 0; round < arguments.rounds; round++)
        for (u32 first = threadIdx.x; first < arguments.vectors; first += 8 * 512) {
            uint4 values[8];
#pragma unroll
            for (u32 j = 0; j < 8; j++) values[j] = load_l2_vector(arguments.from + (first + j * 512) * 16ull);
#pragma unroll
            for (u32 j = 0; j < 8; j++) sum += sum_of(values[j]);
        }
    __syncthreads();
    if (threadIdx.x == 0) stamp_end(stamp, arguments.rounds, arguments.stamps);
    add_sum(sum, arguments.sums + blockIdx.x * 4);
}
