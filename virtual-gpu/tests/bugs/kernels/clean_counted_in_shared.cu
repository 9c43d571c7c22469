// A shared counter is used through atomics between two barriers and read plainly after the second.
extern "C" __global__ void odd_positions(const int* x, int* out, int* totals) {
    __shared__ int count;
    int t = threadIdx.x;
    int base = blockIdx.x * 128;
    if (t == 0) count = 0;
    __syncthreads();
    if (x[base + t] & 1) out[base + atomicAdd(&count, 1)] = t;
    __syncthreads();
    if (t == 0) totals[blockIdx.x] = count;
}
