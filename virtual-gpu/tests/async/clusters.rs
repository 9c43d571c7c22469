//! Clusters: their numbers, their barrier, and the shared memory of other blocks.

use crate::machine::{as_words, assert_clean, bytes_of, compile, kernel, random_words, run};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::{Device, LaunchConfig, LaunchError, LaunchOptions, Module, Profile};

const SEEDS: std::ops::Range<u64> = 0..8;

fn seeded(seed: u64) -> LaunchOptions {
    LaunchOptions {
        seed,
        ..LaunchOptions::default()
    }
}

/// A launch of `blocks` blocks of `threads` threads in clusters along x.
fn config(blocks: u32, threads: u32, cluster: u32) -> LaunchConfig {
    LaunchConfig {
        cluster: Some([cluster, 1, 1]),
        ..LaunchConfig::linear(blocks, threads)
    }
}

/// What CUDA C++ needs of inline PTX.
pub const HELPERS: &str = r#"
typedef unsigned long long u64;
__device__ __forceinline__ unsigned at(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ unsigned cluster_rank() { unsigned r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ __forceinline__ unsigned peer(unsigned address, unsigned rank) {
    unsigned r; asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank)); return r;
}
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
__device__ __forceinline__ void init(u64* bar, int count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at(bar)), "r"(count) : "memory"); }
__device__ __forceinline__ void expect(u64* bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at(bar)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait(u64* bar, unsigned parity) {
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n@!p bra again; }"
                 ::"r"(at(bar)), "r"(parity) : "memory");
}
__device__ __forceinline__ void arrive_at(unsigned bar) {
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(bar) : "memory");
}
"#;

#[test]
fn blocks_know_their_place() {
    let names = [
        "%cluster_ctaid.x",
        "%cluster_ctaid.y",
        "%cluster_ctaid.z",
        "%cluster_ctarank",
        "%clusterid.x",
        "%clusterid.y",
        "%clusterid.z",
        "%nclusterid.x",
        "%nclusterid.y",
        "%nclusterid.z",
        "%cluster_nctaid.x",
        "%cluster_nctaid.y",
        "%cluster_nctaid.z",
        "%cluster_nctarank",
    ];
    let mut body = "mov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ctaid.y;\nmad.lo.u32 %r1, %r2, 4, %r1;\nmov.u32 %r2, %ctaid.z;\n\
        mad.lo.u32 %r1, %r2, 16, %r1;\nmul.wide.u32 %x1, %r1, 64;\nadd.u64 %x1, %x1, %p0;\n"
        .to_string();
    for (index, name) in names.iter().enumerate() {
        body += &format!(
            "mov.u32 %r3, {name};\nst.global.u32 [%x1+{}], %r3;\n",
            4 * index
        );
    }
    body += "mov.pred %q1, %is_explicit_cluster;\nselp.u32 %r3, 1, 0, %q1;\nst.global.u32 [%x1+56], %r3;\n\
        mov.u32 %r4, memory;\nmapa.shared::cluster.u32 %r4, %r4, 2;\ngetctarank.shared::cluster.u32 %r3, %r4;\n\
        st.global.u32 [%x1+60], %r3;\n";
    for explicit in [false, true] {
        let launch = LaunchConfig {
            grid: [4, 4, 2],
            cluster: explicit.then_some([2, 2, 1]),
            ..LaunchConfig::linear(1, 1)
        };
        let mut buffers = [vec![0; 32 * 64]];
        let report = run(
            &kernel(1, &body),
            "test",
            launch,
            seeded(3),
            &mut buffers,
            &[],
        );
        assert_clean(&report);
        let shape: [u32; 3] = if explicit { [2, 2, 1] } else { [1; 3] };
        for (block, found) in as_words(&buffers[0]).as_chunks::<16>().0.iter().enumerate() {
            let at = [block as u32 % 4, block as u32 / 4 % 4, block as u32 / 16];
            let place: [u32; 3] = std::array::from_fn(|axis| at[axis] % shape[axis]);
            let id: [u32; 3] = std::array::from_fn(|axis| at[axis] / shape[axis]);
            let count: [u32; 3] = std::array::from_fn(|axis| launch.grid[axis] / shape[axis]);
            let rank = place[0] + shape[0] * place[1];
            let blocks = shape.iter().product();
            let expected = [
                &place[..],
                &[rank],
                &id,
                &count,
                &shape,
                &[blocks, u32::from(explicit), 2],
            ]
            .concat();
            assert_eq!(found[..], expected, "block {block}");
        }
    }
}

/// Each block adds up what all blocks of its cluster hold, by reads and by atomics.
const SUMS: &str = r#"
extern "C" __global__ void __cluster_dims__(4, 1, 1) sums(const unsigned* x, unsigned* y) {
    __shared__ unsigned own[64], total;
    int t = threadIdx.x;
    own[t] = x[blockIdx.x * 64 + t];
    if (t == 0) total = 0;
    cluster_sync();
    unsigned sum = 0;
    for (unsigned rank = 0; rank < 4; rank++) {
        unsigned word;
        asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(word) : "r"(peer(at(own + t), rank)) : "memory");
        sum += word;
    }
    u64 generic;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(generic) : "l"(&total), "r"((cluster_rank() + 1) % 4));
    atomicAdd((unsigned*)generic, sum);
    cluster_sync();
    y[blockIdx.x * 64 + t] = sum + total;
}
"#;

#[test]
fn blocks_read_each_other() {
    let ptx = compile("sums.cu", &format!("{HELPERS}{SUMS}"), 90);
    let x = random_words(3, 8 * 64);
    for seed in SEEDS {
        let mut buffers = [bytes_of(x.clone()), vec![0; 8 * 64 * 4]];
        assert_clean(&run(
            &ptx,
            "sums",
            LaunchConfig::linear(8, 64),
            seeded(seed),
            &mut buffers,
            &[],
        ));
        let y = as_words(&buffers[1]);
        for cluster in 0..2 {
            let sum = |t: usize| {
                (0..4).fold(0u32, |sum, rank| {
                    sum.wrapping_add(x[(4 * cluster + rank) * 64 + t])
                })
            };
            let total = (0..64).fold(0u32, |total, t| total.wrapping_add(sum(t)));
            for i in 0..256 {
                let expected = sum(i % 64).wrapping_add(total);
                assert_eq!(y[256 * cluster + i], expected, "seed {seed} word {i}");
            }
        }
    }
}

/// One block of the cluster fetches for both, each of which says that it is done to the other.
const MULTICAST: &str = r#"
extern "C" __global__ void __cluster_dims__(2, 1, 1) multicast(const unsigned* x, unsigned* y, int rounds) {
    __shared__ __align__(128) unsigned tile[2][64];
    __shared__ u64 full, empty;
    int t = threadIdx.x, rank = cluster_rank();
    if (t == 0) {
        init(&full, 1);
        init(&empty, 2);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    cluster_sync();
    unsigned hash = 0;
    for (int i = 0; i < rounds; i++) {
        if (t == 0) {
            // Nobody reads any more what was fetched the round before.
            if (i > 0) wait(&empty, (i - 1) & 1);
            expect(&full, 512);
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
                         " [%0], [%1], 256, [%2], %3;"
                         ::"r"(at(tile[rank])), "l"(x + (2 * i + rank) * 64), "r"(at(&full)), "h"((unsigned short)3) : "memory");
        }
        wait(&full, i & 1);
        hash = hash * 31 + (tile[0][t] ^ 3 * tile[1][t]);
        __syncthreads();
        if (t < 2) arrive_at(peer(at(&empty), t));
    }
    if (t == 0) wait(&empty, (rounds - 1) & 1);
    y[blockIdx.x * 64 + t] = hash;
}
"#;

#[test]
fn a_block_fetches_for_others() {
    let ptx = compile("multicast.cu", &format!("{HELPERS}{MULTICAST}"), 90);
    let x = random_words(5, 5 * 128);
    for seed in SEEDS {
        let mut buffers = [bytes_of(x.clone()), vec![0; 4 * 64 * 4]];
        let report = run(
            &ptx,
            "multicast",
            LaunchConfig::linear(4, 64),
            seeded(seed),
            &mut buffers,
            &[5],
        );
        assert_clean(&report);
        assert_eq!(report.counters.memory.async_bytes, 2 * 5 * 2 * 256);
        for (i, hash) in as_words(&buffers[1]).into_iter().enumerate() {
            let expected = x.as_chunks::<128>().0.iter().fold(0u32, |hash, round| {
                hash.wrapping_mul(31)
                    .wrapping_add(round[i % 64] ^ round[64 + i % 64].wrapping_mul(3))
            });
            assert_eq!(hash, expected, "seed {seed} word {i}");
        }
    }
}

/// A block sends its words to the next one, which waits for the bytes.
const SEND: &str = r#"
extern "C" __global__ void __cluster_dims__(4, 1, 1) send(const unsigned* x, unsigned* y) {
    __shared__ __align__(128) unsigned own[64], got[64];
    __shared__ u64 full;
    int t = threadIdx.x;
    own[t] = x[blockIdx.x * 64 + t];
    if (t == 0) {
        init(&full, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        expect(&full, 256);
    }
    asm volatile("fence.proxy.async;" ::: "memory");
    cluster_sync();
    if (t == 0) {
        unsigned next = (cluster_rank() + 1) % 4;
        asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], 256, [%2];"
                     ::"r"(peer(at(got), next)), "r"(at(own)), "r"(peer(at(&full), next)) : "memory");
    }
    wait(&full, 0);
    y[blockIdx.x * 64 + t] = got[t];
    cluster_sync();
}
"#;

#[test]
fn shared_memory_is_copied_to_other_blocks() {
    let ptx = compile("send.cu", &format!("{HELPERS}{SEND}"), 90);
    let x = random_words(7, 256);
    for seed in SEEDS {
        let mut buffers = [bytes_of(x.clone()), vec![0; 1024]];
        assert_clean(&run(
            &ptx,
            "send",
            LaunchConfig::linear(4, 64),
            seeded(seed),
            &mut buffers,
            &[],
        ));
        let y = as_words(&buffers[1]);
        assert_eq!((&y[64..], &y[..64]), (&x[..192], &x[192..]), "seed {seed}");
    }
}

#[test]
fn stores_that_an_mbarrier_counts_arrive_with_it() {
    let text = "mov.u32 %r9, %cluster_ctarank;\nxor.b32 %r8, %r9, 1;\nadd.u32 %r7, %s, 64;\nst.shared.u32 [%s+80], 5;\n\
        setp.ne.u32 %q0, %lane, 0;\n@%q0 bra ready;\nmbarrier.init.shared.b64 [%s], 1;\n\
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%s], 28;\nready:\n\
        barrier.cluster.arrive;\nbarrier.cluster.wait;\n\
        mapa.shared::cluster.u32 %r1, %r7, %r8;\nmapa.shared::cluster.u32 %r2, %s, %r8;\nadd.u32 %r3, %r9, 100;\n\
        @%q0 bra sent;\n\
        st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r1], {%r3, 1, 2, 3}, [%r2];\n\
        mov.b64 %x1, {%r3, %r9};\n\
        st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%r1+32], %x1, [%r2];\n\
        red.async.relaxed.cluster.add.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r1+16], %r3, [%r2];\n\
        sent:\nWAIT\
        ld.shared.u32 %r4, [%s+64];\nld.shared.u32 %r5, [%s+80];\nld.shared.u32 %r6, [%s+96];\n\
        barrier.cluster.arrive;\nbarrier.cluster.wait;\n@%q0 ret;\n\
        mul.wide.u32 %x2, %r9, 16;\nadd.u64 %x2, %p0, %x2;\nst.global.v2.u32 [%x2], {%r4, %r5};\nst.global.u32 [%x2+8], %r6;\n";
    let wait = "again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %q1, [%s], 0;\n@!%q1 bra again;\n";
    for seed in SEEDS {
        let mut buffers = [vec![0; 32]];
        let ptx = kernel(1, &text.replace("WAIT", wait));
        assert_clean(&run(
            &ptx,
            "test",
            config(2, 32, 2),
            seeded(seed),
            &mut buffers,
            &[],
        ));
        let found = as_words(&buffers[0]);
        assert_eq!(found, [101, 106, 101, 0, 100, 105, 100, 0], "seed {seed}");
        let early = run(
            &kernel(1, &text.replace("WAIT", "")),
            "test",
            config(2, 32, 2),
            seeded(seed),
            &mut buffers,
            &[],
        );
        assert!(early.first_kind().is_some(), "seed {seed}");
    }
}

#[test]
fn a_barrier_of_the_cluster_counts_those_who_have_not_ended() {
    let text = "setp.lt.u32 %q1, %lane, 8;\n@%q1 ret;\nbarrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;\n\
        barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;\nst.global.u32 [%p0], 7;\n";
    for seed in SEEDS {
        let mut buffers = [vec![0; 4]];
        let ptx = kernel(1, text).replace("st.global", "st.relaxed.gpu.global");
        assert_clean(&run(
            &ptx,
            "test",
            config(4, 40, 2),
            seeded(seed),
            &mut buffers,
            &[],
        ));
        assert_eq!(as_words(&buffers[0]), [7]);
    }
}

#[test]
fn misuse_of_clusters_is_found() {
    let whole = "barrier.cluster.arrive;\nbarrier.cluster.wait;\n";
    let cases = [
        // Beyond the cluster, or the memory of a block.
        (
            "mapa.shared::cluster.u32 %r1, %s, 2;\nst.shared::cluster.u32 [%r1], 1;",
            FindingKind::OutOfBounds,
        ),
        (
            "mapa.shared::cluster.u32 %r1, %s, 1;\nst.shared::cluster.u32 [%r1+4096], 1;",
            FindingKind::OutOfBounds,
        ),
        (
            "mapa.shared::cluster.u32 %r1, %s, 1;\nst.shared::cta.u32 [%r1], 1;",
            FindingKind::OutOfBounds,
        ),
        (
            "mapa.shared::cluster.u32 %r1, %s, 1;\nld.shared::cluster.u32 %r2, [%r1];",
            FindingKind::UninitializedRead,
        ),
        (
            "mapa.shared::cluster.u32 %r1, %s, 0;\nst.shared::cluster.u32 [%r1], %r9;\nbarrier.cluster.arrive;\n\
          barrier.cluster.wait;",
            FindingKind::RaceShared,
        ),
        (
            "barrier.cluster.arrive;\nbarrier.cluster.arrive;",
            FindingKind::DivergentBarrier,
        ),
        ("barrier.cluster.wait;", FindingKind::DivergentBarrier),
        (
            "setp.eq.u32 %q1, %r9, 0;\n@%q1 bra past;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\nbra done;\npast:\n\
          bar.sync 0;\nld.relaxed.gpu.global.u32 %r1, [%p0];\nsetp.eq.u32 %q1, %r1, 0;\n@%q1 bra past;\ndone:\n",
            FindingKind::Deadlock,
        ),
        // Block 1 may have ended.
        (
            "setp.eq.u32 %q1, %r9, 1;\n@%q1 ret;\nmapa.shared::cluster.u32 %r1, %s, 1;\nst.shared::cluster.u32 [%r1], 1;",
            FindingKind::UseAfterFree,
        ),
        (
            "mbarrier.init.shared.b64 [%s], 1;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\n\
          mapa.shared::cluster.u32 %r1, %s, 1;\nsetp.eq.u32 %q1, %r9, 1;\n@%q1 ret;\n\
          mbarrier.arrive.shared::cluster.b64 _, [%r1];",
            FindingKind::UseAfterFree,
        ),
        // Only its own block waits at an mbarrier or makes one.
        (
            "mapa.shared::cluster.u32 %r1, %s, 1;\nmbarrier.arrive.shared::cluster.b64 _, [%r1];",
            FindingKind::MbarrierMisuse,
        ),
    ];
    for (text, expected) in cases {
        for seed in SEEDS {
            let body = format!("mov.u32 %r9, %cluster_ctarank;\n{text}\n");
            let report = run(
                &kernel(1, &body),
                "test",
                config(2, 1, 2),
                seeded(seed),
                &mut [vec![0; 64]],
                &[],
            );
            assert_eq!(
                report.first_kind(),
                Some(expected),
                "{text} {seed} {:?}",
                report.findings
            );
        }
    }
    let safe = format!(
        "mov.u32 %r9, %cluster_ctarank;\nxor.b32 %r8, %r9, 1;\nst.shared.u32 [%s], %r9;\n{whole}\
         mapa.shared::cluster.u32 %r1, %s, %r8;\nld.shared::cluster.u32 %r2, [%r1];\n{whole}"
    );
    for seed in SEEDS {
        assert_clean(&run(
            &kernel(1, &safe),
            "test",
            config(2, 1, 2),
            seeded(seed),
            &mut [vec![0; 64]],
            &[],
        ));
    }
}

#[test]
fn sizes_of_clusters_are_checked() {
    let refused = |ptx: &str, profile: Profile, config: LaunchConfig, options: LaunchOptions| {
        let module = Module::from_ptx(ptx).unwrap();
        match Device::new(profile).launch(&module, "test", &config, &[], &options) {
            Ok(_) => String::new(),
            Err(LaunchError::BadConfiguration(message)) => message,
            Err(other) => panic!("{other}"),
        }
    };
    let plain = kernel(0, "");
    let with =
        |directive: &str| plain.replace(".entry test()", &format!(".entry test() {directive}"));
    let (large, options) = (
        LaunchOptions {
            non_portable_cluster: true,
            ..LaunchOptions::default()
        },
        LaunchOptions::default(),
    );
    let h100 = Profile::h100;
    assert_eq!(refused(&plain, h100(), config(16, 32, 8), options), "");
    assert_eq!(refused(&plain, h100(), config(16, 32, 16), large), "");
    assert!(refused(&plain, h100(), config(16, 32, 16), options).contains("16 blocks"));
    assert!(refused(&plain, h100(), config(7, 32, 2), options).contains("divide"));
    assert!(refused(&plain, h100(), config(8, 32, 0), options).contains("none"));
    assert!(refused(&plain, Profile::a100(), config(8, 32, 2), options).contains("no clusters"));
    let required = with(".reqnctapercluster 2, 1, 1");
    assert_eq!(
        refused(&required, h100(), LaunchConfig::linear(8, 32), options),
        ""
    );
    assert!(refused(&required, h100(), LaunchConfig::linear(7, 32), options).contains("divide"));
    assert!(refused(&required, h100(), config(8, 32, 4), options).contains("requires"));
    let explicit = with(".explicitcluster");
    assert_eq!(refused(&explicit, h100(), config(8, 32, 4), options), "");
    assert!(refused(&explicit, h100(), LaunchConfig::linear(8, 32), options).contains("size"));
    assert!(
        refused(
            &with(".explicitcluster .maxclusterrank 2"),
            h100(),
            config(8, 32, 4),
            options
        )
        .contains("allows 2")
    );
}
