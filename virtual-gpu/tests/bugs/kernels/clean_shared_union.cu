// The same shared memory first holds floats, then integers of another layout.
extern "C" __global__ void two_uses(const float* x, const int* k, float* out) {
    __shared__ union {
        float values[128];
        unsigned short keys[256];
    } scratch;
    int t = threadIdx.x;
    scratch.values[t] = x[t];
    __syncthreads();
    float v = scratch.values[127 - t];
    __syncthreads();
    scratch.keys[t] = (unsigned short)k[t];
    scratch.keys[255 - t] = (unsigned short)(k[t] + 1);
    __syncthreads();
    out[t] = v + scratch.keys[127 - t] + scratch.keys[128 + t];
}
