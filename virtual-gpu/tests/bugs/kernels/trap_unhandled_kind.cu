// The switch lacks the fourth operation and traps in its default arm.
extern "C" __global__ void dispatch(const unsigned char* op, int* values) {
    int v = values[threadIdx.x];
    switch (op[threadIdx.x]) {
        case 0: v += 1; break;
        case 1: v *= 3; break;
        case 2: v = -v; break;
        default: asm volatile("trap;");  // BUG
    }
    values[threadIdx.x] = v;
}
