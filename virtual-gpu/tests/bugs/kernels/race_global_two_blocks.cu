// Stores the position of a value of 7; several blocks find one.
extern "C" __global__ void last_index(const int* x, int* found) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (x[i] == 7) {
        *found = i;  // BUG
    }
}
