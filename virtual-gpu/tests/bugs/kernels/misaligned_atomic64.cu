// A 64-bit sum lies behind a 32-bit counter, so that it is only 4-aligned.
extern "C" __global__ void pack_counters(unsigned* state, const unsigned* x) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(state, 1u);
    auto sum = reinterpret_cast<unsigned long long*>(state + 1);
    atomicAdd(sum, (unsigned long long)x[i]);  // BUG
}
