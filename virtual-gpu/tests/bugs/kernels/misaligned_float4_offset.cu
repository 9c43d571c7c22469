// The first float is the scale of the rest, which is read as vectors.
extern "C" __global__ void skip_header(const float* x, float* y) {
    float scale = x[0];
    const float* payload = x + 1;
    int i = threadIdx.x * 4;
    float4 v = *reinterpret_cast<const float4*>(payload + i);  // BUG
    y[i] = v.x * scale;
    y[i + 1] = v.y * scale;
    y[i + 2] = v.z * scale;
    y[i + 3] = v.w * scale;
}
