// A persistent cooperative grid: phases of y[i] = 1664525 x[i] + x[(i + shift) % n] + 1013904223, the buffers swapped
// after each, with a grid barrier between phases. The barrier is one counter that only grows: a block adds 1 with
// release, then waits with acquire until phase * gridDim.x have arrived; nothing is ever reset.
// a, b (n,): a holds the input; the result is in a after an even number of phases, else in b. arrivals (1,) zero at
// the start. All blocks must be resident. Any block.

__device__ __forceinline__ void grid_barrier(unsigned* arrivals, unsigned phase) {
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrivals) : "memory");
        unsigned seen;
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrivals) : "memory");
        } while (seen < phase * gridDim.x);
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(256)
persistent_phases(unsigned* a, unsigned* b, unsigned* arrivals, unsigned n, unsigned shift, unsigned phases) {
    unsigned *from = a, *to = b;
    for (unsigned phase = 1; phase <= phases; phase++) {
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
            to[i] = 1664525u * from[i] + from[(i + shift) % n] + 1013904223u;
        unsigned* swapped = from;
        from = to;
        to = swapped;
        if (phase < phases) grid_barrier(arrivals, phase);
    }
}
