// Traps on a token outside the vocabulary; the tokens reach 127.
extern "C" __global__ void lookup(const float* table, const int* tokens, float* out, int vocabulary) {
    int token = tokens[threadIdx.x];
    if (token >= vocabulary) {
        __trap();  // BUG
    }
    out[threadIdx.x] = table[token];
}
