// Copies one row of the table per token. Token 5 is equal to the vocabulary size.
extern "C" __global__ void embedding(const float* table, const int* tokens, float* out, int dim) {
    int token = tokens[blockIdx.x];
    for (int d = threadIdx.x; d < dim; d += blockDim.x) {
        float v = table[token * dim + d];  // BUG
        out[blockIdx.x * dim + d] = v;
    }
}
