// A failed assertion on a divisor that may be zero.
extern "C" __global__ void checked_divide(const int* a, const int* b, int* out) {
    int d = b[threadIdx.x];
    assert(d != 0);  // BUG
    out[threadIdx.x] = a[threadIdx.x] / d;
}
