// The helper that updates a row gets either a row of the output or, by mistake, a row of the constants.
__constant__ float defaults[32] = {0.5f};

__device__ __noinline__ void add_to_row(float* row, float v) {
    row[threadIdx.x] += v;  // BUG
}

extern "C" __global__ void update(const float* x, float* y, int use_defaults) {
    y[threadIdx.x] = 0.0f;
    float* row = use_defaults ? (float*)defaults : y;
    add_to_row(row, x[threadIdx.x]);
}
