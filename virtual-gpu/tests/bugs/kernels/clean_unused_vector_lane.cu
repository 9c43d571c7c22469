// Points are padded to four floats; the padding is loaded with the vector but never used.
extern "C" __global__ void lengths(const float* x, float* padded, float* out) {
    int t = threadIdx.x;
    for (int k = 0; k < 3; ++k) padded[t * 4 + k] = x[t * 3 + k];
    __syncthreads();
    float4 p = *reinterpret_cast<const float4*>(padded + (63 - t) * 4);
    out[t] = p.x * p.x + p.y * p.y + p.z * p.z;
}
