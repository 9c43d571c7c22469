// Ordinary stores fill the tile, then the asynchronous proxy reads it without a proxy fence in between.
extern "C" __global__ void bulk_negate(const float* x, float* y) {
    __shared__ __align__(128) float tile[256];
    int t = threadIdx.x;
    const float* from = x + blockIdx.x * 256;
    float* to = y + blockIdx.x * 256;
    unsigned tile_address = (unsigned)__cvta_generic_to_shared(tile);
    for (int i = t; i < 256; i += 128) tile[i] = -from[i];
    __syncthreads();
    if (t == 0) {
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 1024;"  // BUG
                     ::"l"(to), "r"(tile_address) : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
