// Rows of an embedding table by token id, one warp a token; a negative id (padding) gives a row of zeros.
// table (vocabulary, dim) bf16, ids (tokens,), out (tokens, dim); dim a multiple of 8. Block: a multiple of 32.

extern "C" __global__ void __launch_bounds__(256)
gather(const uint4* __restrict__ table, const int* __restrict__ ids, uint4* __restrict__ out, unsigned tokens,
       unsigned dim) {
    const unsigned vectors = dim / 8;
    const unsigned token = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (token >= tokens) return;
    const int id = ids[token];
    for (unsigned i = threadIdx.x % 32; i < vectors; i += 32)
        out[(size_t)token * vectors + i] = id >= 0 ? __ldg(table + (size_t)id * vectors + i) : uint4{0, 0, 0, 0};
}
