// y = x^T through a shared tile with one column of padding, so that reading a column touches 32 banks.
// x (rows, cols), y (cols, rows), any shape. Grid: (ceil(cols/32), ceil(rows/32)). Block: (32, 8).

constexpr unsigned TILE = 32;

extern "C" __global__ void __launch_bounds__(256)
transpose(const float* __restrict__ x, float* __restrict__ y, unsigned rows, unsigned cols) {
    __shared__ float tile[TILE][TILE + 1];

    const unsigned col = blockIdx.x * TILE + threadIdx.x;
#pragma unroll
    for (unsigned j = threadIdx.y; j < TILE; j += 8) {
        const unsigned row = blockIdx.y * TILE + j;
        if (row < rows && col < cols) tile[j][threadIdx.x] = x[(size_t)row * cols + col];
    }
    __syncthreads();

    const unsigned row = blockIdx.y * TILE + threadIdx.x;
#pragma unroll
    for (unsigned j = threadIdx.y; j < TILE; j += 8) {
        const unsigned out = blockIdx.x * TILE + j;
        if (out < cols && row < rows) y[(size_t)out * rows + row] = tile[threadIdx.x][j];
    }
}
