// Each block adds its tile to the result by one bulk reduction; only thread fences precede it.
extern "C" __global__ void bulk_accumulate(const unsigned* x, unsigned* sum) {
    __shared__ __align__(128) unsigned tile[64];
    int t = threadIdx.x;
    tile[t] = x[blockIdx.x * 64 + t] * 2;
    __threadfence_block();
    __syncthreads();
    if (t == 0) {
        unsigned from = (unsigned)__cvta_generic_to_shared(tile);
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%0], [%1], 256;"  // BUG
                     ::"l"(sum), "r"(from) : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
