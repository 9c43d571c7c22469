// Doubles four floats per thread; the last vector is only partly inside the buffer.
extern "C" __global__ void scale4(const float* x, float* y, int n) {
    int i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i < n) {
        float4 v = *reinterpret_cast<const float4*>(x + i);  // BUG
        float4 twice = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w);
        *reinterpret_cast<float4*>(y + i) = twice;
    }
}
