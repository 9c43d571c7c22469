// Counts a step in the parameters, which are constant for the launch.
struct Step {
    int index, size, offset, stride;
};

extern "C" __global__ void advance(float* y, const __grid_constant__ Step step) {
    int* index = const_cast<int*>(&step.index);
    y[threadIdx.x] = step.offset + step.index;
    *(volatile int*)index = step.size;  // BUG
}
