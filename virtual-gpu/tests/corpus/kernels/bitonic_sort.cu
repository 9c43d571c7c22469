// Ascending sort of u32 keys within segments of 1024, one segment a block, by a bitonic network in shared memory.
// keys (n,) in place, any n: the last segment is padded with the largest key. Block: 512.

constexpr unsigned SEGMENT = 1024;

extern "C" __global__ void __launch_bounds__(SEGMENT / 2)
bitonic_sort(unsigned* __restrict__ keys, unsigned n) {
    __shared__ unsigned shared[SEGMENT];
    const unsigned first = blockIdx.x * SEGMENT;
    for (unsigned i = threadIdx.x; i < SEGMENT; i += SEGMENT / 2)
        shared[i] = first + i < n ? keys[first + i] : 0xffffffffu;

    for (unsigned run = 2; run <= SEGMENT; run *= 2) {
        for (unsigned distance = run / 2; distance > 0; distance /= 2) {
            __syncthreads();
            const unsigned low = 2 * threadIdx.x - (threadIdx.x & (distance - 1)), high = low + distance;
            const unsigned a = shared[low], b = shared[high];
            const bool ascending = (low & run) == 0;
            if ((a > b) == ascending) {
                shared[low] = b;
                shared[high] = a;
            }
        }
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < SEGMENT; i += SEGMENT / 2)
        if (first + i < n) keys[first + i] = shared[i];
}
