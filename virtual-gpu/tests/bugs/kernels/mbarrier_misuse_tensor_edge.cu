// At the edge only the bytes of the tensor are expected, but the whole box counts.
typedef unsigned long long u64;
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define INIT(bar, count) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(AT(bar)), "r"(count) : "memory")
#define EXPECT(bar, bytes) \
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(AT(bar)), "r"(bytes) : "memory")
#define WAIT(bar, parity)                                                                                              \
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n\t"     \
                 "@!p bra again; }" ::"r"(AT(bar)), "r"(parity) : "memory")
#define PROXY_FENCE() asm volatile("fence.proxy.async.shared::cta;" ::: "memory")
struct alignas(64) Map { char bytes[128]; };
#define LOAD_BOX(to, map, x, y, bar)                                                                                    \
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" \
                 ::"r"(AT(to)), "l"(&map), "r"(x), "r"(y), "r"(AT(bar)) : "memory")
#define STORE_BOX(map, x, y, from)                                                                \
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];"      \
                 ::"l"(&map), "r"(x), "r"(y), "r"(AT(from)) : "memory")
#define COMMIT() asm volatile("cp.async.bulk.commit_group;" ::: "memory")
#define WAIT_GROUP() asm volatile("cp.async.bulk.wait_group 0;" ::: "memory")

extern "C" __global__ void move_box(const __grid_constant__ Map from, const __grid_constant__ Map to, const unsigned* x, unsigned* y) {
    __shared__ __align__(128) unsigned tile[128];
    __shared__ u64 full;
    int t = threadIdx.x, row = blockIdx.x * 8;
    if (t == 0) {
        INIT(&full, 1);
        asm volatile("fence.proxy.async;" ::: "memory");
        EXPECT(&full, 4 * (128 - row));  // BUG
        LOAD_BOX(tile, from, 0, row, &full);  // BUG
    }
    __syncthreads();
    WAIT(&full, 0);
    tile[t] += 1;
    PROXY_FENCE();
    __syncthreads();
    if (t == 0) {
        STORE_BOX(to, 0, row, tile);
        COMMIT();
        WAIT_GROUP();
    }
}
