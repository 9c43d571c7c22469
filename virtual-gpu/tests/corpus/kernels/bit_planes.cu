// Matrix-vector product of small integers held as bit planes: and, popc, shift.
// w (rows, 3, words): two's complement, 3 bits; x (4, words): unsigned, 4 bits; bit i of word j is column 32j + i.
// y (rows,) i32, exact. One warp a row. Block: a multiple of 32.

constexpr int W_BITS = 3, X_BITS = 4;

extern "C" __global__ void __launch_bounds__(128)
bit_planes(const unsigned* __restrict__ w, const unsigned* __restrict__ x, int* __restrict__ y, unsigned rows,
           unsigned words) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    w += (size_t)row * W_BITS * words;

    int sum = 0;
    for (unsigned j = lane; j < words; j += 32) {
        unsigned activation[X_BITS];
#pragma unroll
        for (int b = 0; b < X_BITS; b++) activation[b] = x[b * words + j];
#pragma unroll
        for (int a = 0; a < W_BITS; a++) {
            const unsigned weight = w[a * words + j];
            int plane = 0;
#pragma unroll
            for (int b = 0; b < X_BITS; b++) plane += __popc(weight & activation[b]) << b;
            // The top plane of a two's complement number counts negative.
            sum += a == W_BITS - 1 ? -(plane << a) : plane << a;
        }
    }
    sum = __reduce_add_sync(0xffffffffu, sum);
    if (lane == 0) y[row] = sum;
}
