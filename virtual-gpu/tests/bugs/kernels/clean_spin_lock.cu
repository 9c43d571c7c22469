// Ordinary reads and writes under a lock with fences.
extern "C" __global__ void guarded_add(const float* x, int* lock, float* total) {
    if (threadIdx.x != 0) return;
    while (atomicCAS(lock, 0, 1) != 0) {}
    __threadfence();
    *total += x[blockIdx.x];
    __threadfence();
    atomicExch(lock, 0);
}
