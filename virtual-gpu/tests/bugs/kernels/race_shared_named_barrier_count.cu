// All four warps exchange data, but the barrier lets pairs of warps through.
extern "C" __global__ void quarters(const int* x, int* out) {
    __shared__ int exchange[128];
    int t = threadIdx.x;
    exchange[t] = 0;
    __syncthreads();
    exchange[t] = x[t];  // BUG
    int id = 1 + t / 64;
    asm volatile("bar.sync %0, 64;" ::"r"(id) : "memory");
    out[t] = exchange[(t + 32) & 127];  // BUG
}
