// Histogram of the upper six bits, first in shared memory, then merged.
extern "C" __global__ void histogram_shared(const unsigned char* data, unsigned* bins, int n) {
    __shared__ unsigned local_bins[64];
    if (threadIdx.x < 64) local_bins[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&local_bins[data[i] >> 1], 1u);  // BUG
    }
    __syncthreads();
    if (threadIdx.x < 64) atomicAdd(&bins[threadIdx.x], local_bins[threadIdx.x]);
}
