// Correlation of each channel with its own taps, zero padding, same length:
// y[c][i] = sum_k w[c][k] x[c][i + k - taps/2].
// x, y (channels, length), w (channels, taps), taps odd and at most 31. The block's stretch and its halo
// pass through shared memory. Grid: (ceil(length/256), channels). Block: 256.

constexpr int BLOCK = 256, MAX_TAPS = 31;

extern "C" __global__ void __launch_bounds__(BLOCK)
conv1d(const float* __restrict__ x, const float* __restrict__ w, float* __restrict__ y, int length, int taps) {
    __shared__ float stretch[BLOCK + MAX_TAPS - 1];
    __shared__ float weights[MAX_TAPS];
    const int radius = taps / 2, first = blockIdx.x * BLOCK - radius;
    x += (size_t)blockIdx.y * length;

    for (int i = threadIdx.x; i < BLOCK + 2 * radius; i += BLOCK) {
        const int source = first + i;
        stretch[i] = source >= 0 && source < length ? x[source] : 0.0f;
    }
    if (threadIdx.x < taps) weights[threadIdx.x] = w[blockIdx.y * taps + threadIdx.x];
    __syncthreads();

    const int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i >= length) return;
    float sum = 0.0f;
    for (int k = 0; k < taps; k++) sum += weights[k] * stretch[threadIdx.x + k];
    y[(size_t)blockIdx.y * length + i] = sum;
}
