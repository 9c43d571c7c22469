// The vote of the block is the right side of &&, so that only threads with a positive value take part.
extern "C" __global__ void any_large(const float* x, int* out) {
    int t = threadIdx.x;
    float v = x[t];
    int result = 0;
    if (v > 0.0f && __syncthreads_or(v > 0.9f)) {  // BUG
        result = 1;
    }
    __syncthreads();  // BUG
    out[t] = result;
}
