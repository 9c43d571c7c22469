// A negative value leaves the critical section without giving the lock back.
extern "C" __global__ void guarded_add(const float* x, int* lock, float* total) {
    if (threadIdx.x != 0) return;
    float v = x[blockIdx.x];
    while (atomicCAS(lock, 0, 1) != 0) {}  // BUG
    __threadfence();
    if (v < 0.0f) return;
    *total += v;
    __threadfence();
    atomicExch(lock, 0);
}
