// One Jacobi step in place: blocks read the edge that the next block overwrites.
extern "C" __global__ void relax(float* x) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int right = min(i + 1, 255);
    float v = 0.5f * (x[i] + x[right]);  // BUG
    __syncthreads();
    x[i] = v;  // BUG
}
