// Each block stores its words in the other one, whose mbarrier counts them; who has waited may leave.
typedef unsigned long long u64;
#define AT(p) ((unsigned)__cvta_generic_to_shared(p))
#define RANK(r) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r))
#define MAP(to, at, rank) asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank))
#define CLUSTER_SYNC() asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory")
#define INIT(bar, count) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(AT(bar)), "r"(count) : "memory")
#define INIT_FENCE() asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory")
#define EXPECT(bar, bytes) \
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(AT(bar)), "r"(bytes) : "memory")
#define WAIT(bar, parity)                                                                                              \
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n\t"     \
                 "@!p bra again; }" ::"r"(AT(bar)), "r"(parity) : "memory")

extern "C" __cluster_dims__(2, 1, 1) __global__ void exchange(const unsigned* x, unsigned* y) {
    __shared__ unsigned got[64];
    __shared__ u64 full;
    int t = threadIdx.x;
    unsigned rank, to, bar;
    RANK(rank);
    if (t == 0) {
        INIT(&full, 1);
        INIT_FENCE();
        EXPECT(&full, 256);
    }
    CLUSTER_SYNC();
    MAP(to, AT(got + t), rank ^ 1);
    MAP(bar, AT(&full), rank ^ 1);
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];"
                 ::"r"(to), "r"(x[blockIdx.x * 64 + t]), "r"(bar) : "memory");
    WAIT(&full, 0);
    y[blockIdx.x * 64 + t] = got[t];
}
