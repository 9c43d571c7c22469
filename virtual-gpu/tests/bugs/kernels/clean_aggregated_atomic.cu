// One atomic per group of lanes that happen to run together; correct for any grouping.
extern "C" __global__ void compact(const int* x, int* out, int* count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int lane = threadIdx.x & 31;
    int v = x[i];
    if (v & 1) {
        unsigned mask = __activemask();
        int leader = __ffs(mask) - 1;
        int base = 0;
        if (lane == leader) base = atomicAdd(count, __popc(mask));
        base = __shfl_sync(mask, base, leader);
        out[base + __popc(mask & ((1u << lane) - 1))] = v;
    }
}
