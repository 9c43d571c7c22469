// A flag that is neither volatile nor atomic: the compiler reads it once, before the loop.
extern "C" __global__ void wait(const int* flag, int* out) {
    while (*flag == 0) {  // BUG
        asm volatile("");  // BUG
    }
    out[threadIdx.x] = 1;
}
