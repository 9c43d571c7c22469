// The mask of active lanes is taken before the branch and used inside it.
extern "C" __global__ void leader_broadcast(const int* x, int* out) {
    unsigned mask = __activemask();
    int v = x[threadIdx.x];
    int first = -1;
    if (v % 3 == 0) {
        first = __shfl_sync(mask, v, __ffs(mask) - 1);  // BUG
    }
    out[threadIdx.x] = first;
}
