// The lower half of each warp sums itself up with a mask that names the whole warp.
extern "C" __global__ void half_sums(const float* x, float* out) {
    int lane = threadIdx.x & 31;
    float v = x[threadIdx.x];
    if (lane < 16) {
        v += __shfl_xor_sync(0xffffffffu, v, 8);  // BUG
    }
    out[threadIdx.x] = v;
}
