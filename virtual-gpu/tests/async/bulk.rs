//! `cp.async.bulk` and `cp.reduce.async.bulk`.

use crate::machine::{as_words, assert_clean, bytes_of, compile, kernel, random_words, run};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::{LaunchConfig, LaunchOptions, LaunchReport};

const SEEDS: std::ops::Range<u64> = 0..8;

/// One thread runs `text`; the first buffer is in `%p0`.
fn alone(text: &str, buffers: &mut [Vec<u8>], seed: u64) -> LaunchReport {
    let body = format!("setp.ne.u32 %q0, %lane, 0;\n@%q0 bra past;\n{text}\npast:\n");
    let options = LaunchOptions {
        seed,
        ..LaunchOptions::default()
    };
    let ptx = kernel(buffers.len(), &body);
    run(
        &ptx,
        "test",
        LaunchConfig::linear(1, 32),
        options,
        buffers,
        &[],
    )
}

const FETCH: &str = "mbarrier.init.shared.b64 [%s], 1;\nfence.proxy.async;\n\
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%s], 64;\n\
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s+128], [%p0], 64, [%s];\n";
const WAIT: &str =
    "again: mbarrier.try_wait.parity.shared::cta.b64 %q1, [%s], 0;\n@!%q1 bra again;\n";

#[test]
fn bytes_go_in_and_out() {
    let text = format!(
        "{FETCH}{WAIT}cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%s+256], [%s+128], 64, [%s];\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%s], 64;\n\
         more: mbarrier.try_wait.parity.shared::cta.b64 %q1, [%s], 1;\n@!%q1 bra more;\n\
         cp.async.bulk.global.shared::cta.bulk_group [%p1+16], [%s+256], 64;\ncp.async.bulk.commit_group;\n\
         cp.async.bulk.wait_group.read 0;\ncp.async.bulk.wait_group 0;\n\
         ld.global.b32 %r1, [%p1+16];\nst.global.b32 [%p1], %r1;\n"
    );
    let x = random_words(1, 16);
    for seed in SEEDS {
        let mut buffers = [bytes_of(x.clone()), vec![0; 80]];
        let report = alone(&text, &mut buffers, seed);
        assert_clean(&report);
        let y = as_words(&buffers[1]);
        assert_eq!(y[4..], x);
        assert_eq!(y[..4], [x[0], 0, 0, 0]);
        let memory = report.counters.memory;
        assert_eq!(memory.async_bytes, 192);
        assert_eq!(memory.global_unique_read_bytes, 64 + 4);
    }
}

#[test]
fn who_does_not_wait_is_found() {
    let out = "st.shared.v4.b32 [%s], {1, 2, 3, 4};\nfence.proxy.async;\n\
        cp.async.bulk.global.shared::cta.bulk_group [%p0], [%s], 16;\ncp.async.bulk.commit_group;\n";
    let cases = [
        format!("{FETCH}ld.shared.b32 %r1, [%s+188];"),
        format!("{FETCH}st.shared.b32 [%s+128], 1;"),
        format!(
            "{FETCH}mbarrier.try_wait.parity.shared::cta.b64 %q1, [%s], 1;\nld.shared.b32 %r1, [%s+128];"
        ),
        format!("{out}ld.global.b32 %r1, [%p0];"),
        format!("{out}cp.async.bulk.wait_group.read 0;\nld.global.b32 %r1, [%p0];"),
        format!("{out}cp.async.bulk.wait_group 1;\nst.global.b32 [%p0+12], 1;"),
    ];
    for text in cases {
        for seed in SEEDS {
            let report = alone(&text, &mut [vec![0; 64]], seed);
            assert_eq!(
                report.first_kind(),
                Some(FindingKind::PendingAsyncRead),
                "{text} {seed}"
            );
        }
    }
}

#[test]
fn bulk_copies_need_a_proxy_fence_after_ordinary_writes() {
    let out = "cp.async.bulk.global.shared::cta.bulk_group [%p0], [%s], 16;\n";
    let store = "st.shared.v4.b32 [%s], {1, 2, 3, 4};\n";
    let global = "st.global.b32 [%p0], 1;\nmbarrier.init.shared.b64 [%s], 1;\nFENCE\n\
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%s], 64;\n\
        cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%s+128], [%p0], 64, [%s];\n";
    let fence = "fence.proxy.async;\n";
    let cases = [
        (format!("{store}{out}"), true),
        (format!("{fence}{store}{out}"), true),
        (format!("{store}{fence}{out}"), false),
        (global.replace("FENCE", ""), true),
        (global.replace("FENCE", fence), false),
    ];
    for (text, missing) in cases {
        for seed in SEEDS {
            let found = alone(&text, &mut [vec![0; 64]], seed).first_kind();
            let expected = missing.then_some(FindingKind::MissingProxyFence);
            assert_eq!(found, expected, "{text} {seed}");
        }
    }
}

#[test]
fn sizes_addresses_and_bounds_are_checked() {
    let cases = [
        (
            "cp.async.bulk.global.shared::cta.bulk_group [%p0], [%s], 24;",
            FindingKind::Misaligned,
        ),
        (
            "cp.async.bulk.global.shared::cta.bulk_group [%p0+8], [%s], 16;",
            FindingKind::Misaligned,
        ),
        (
            "cp.async.bulk.global.shared::cta.bulk_group [%p0], [%s+4], 16;",
            FindingKind::Misaligned,
        ),
        (
            "cp.async.bulk.global.shared::cta.bulk_group [%p0], [%s], 80;",
            FindingKind::OutOfBounds,
        ),
        (
            "cp.async.bulk.global.shared::cta.bulk_group [%p0], [%s+4080], 32;",
            FindingKind::OutOfBounds,
        ),
        (
            "cp.async.bulk.global.shared::cta.bulk_group [%p0], [%s], 16;",
            FindingKind::UninitializedRead,
        ),
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s+128], [%p0], 64, [%s];",
            FindingKind::MbarrierMisuse,
        ),
    ];
    for (text, expected) in cases {
        let report = alone(text, &mut [vec![0; 64]], 0);
        assert_eq!(report.first_kind(), Some(expected), "{text}");
    }
}

/// Every block combines its words with those of the result.
const COMBINE: &str = r#"
extern "C" __global__ void combine(const unsigned* x, unsigned* y) {
    __shared__ __align__(128) unsigned tile[64];
    int t = threadIdx.x;
    tile[t] = x[blockIdx.x * 64 + t];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (t == 0) {
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.OPERATION [%0], [%1], 256;"
                     ::"l"(y), "r"((unsigned)__cvta_generic_to_shared(tile)) : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
"#;

#[test]
fn reductions_combine_elements() {
    type Combine = fn(u32, u32) -> u32;
    let cases: [(&str, Combine); 7] = [
        ("add.u32", |a, b| a.wrapping_add(b)),
        ("min.s32", |a, b| (a as i32).min(b as i32) as u32),
        ("max.u32", |a, b| a.max(b)),
        ("inc.u32", |a, b| if a >= b { 0 } else { a + 1 }),
        ("and.b32", |a, b| a & b),
        ("xor.b32", |a, b| a ^ b),
        // Whole numbers below 2^8 in bf16 are their upper bits.
        ("add.noftz.bf16", |a, b| {
            let value = |half: u32| f32::from_bits(half << 16);
            let sum = |a: u32, b: u32| (value(a) + value(b)).to_bits() >> 16;
            sum(a & 0xffff, b & 0xffff) | sum(a >> 16, b >> 16) << 16
        }),
    ];
    for (operation, combine) in cases {
        let ptx = compile("combine.cu", &COMBINE.replace("OPERATION", operation), 90);
        let mut x = random_words(6, 3 * 64);
        let mut start = random_words(8, 64);
        if operation.ends_with("bf16") {
            let small = |word: &mut u32| {
                let half = |n: u32| ((n % 32) as f32).to_bits() >> 16;
                *word = half(*word) | half(*word >> 8) << 16;
            };
            x.iter_mut().chain(&mut start).for_each(small);
        }
        // Increments depend on the order of the blocks, so that only one runs.
        let blocks = if operation.starts_with("inc") { 1 } else { 3 };
        for seed in SEEDS {
            let options = LaunchOptions {
                seed,
                ..LaunchOptions::default()
            };
            let mut buffers = [bytes_of(x.clone()), bytes_of(start.clone())];
            let config = LaunchConfig::linear(blocks, 64);
            assert_clean(&run(&ptx, "combine", config, options, &mut buffers, &[]));
            let y = as_words(&buffers[1]);
            for i in 0..64 {
                let parts = (0..blocks as usize).map(|block| x[64 * block + i]);
                assert_eq!(
                    y[i],
                    parts.fold(start[i], combine),
                    "{operation} word {i} seed {seed}"
                );
            }
        }
    }
}

/// A producer thread keeps a ring of stages full, whose words three warps fold.
const RING: &str = r#"
typedef unsigned long long u64;
constexpr int STAGES = 3, CONSUMERS = 96, BYTES = CONSUMERS * 16;
__device__ __forceinline__ unsigned at(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void wait(u64* bar, unsigned parity) {
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra again; }"
                 ::"r"(at(bar)), "r"(parity) : "memory");
}
extern "C" __global__ void ring(const uint4* x, unsigned* out, int tiles) {
    __shared__ __align__(128) uint4 stages[STAGES][CONSUMERS];
    __shared__ u64 full[STAGES], empty[STAGES];
    x += blockIdx.x * tiles * CONSUMERS;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at(full + s)) : "memory");
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 3;" ::"r"(at(empty + s)) : "memory");
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        if (threadIdx.x > CONSUMERS) return;
        for (int i = 0; i < tiles; i++) {
            const int s = i % STAGES, round = i / STAGES;
            if (round > 0) wait(&empty[s], (round - 1) & 1);
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at(full + s)), "r"(BYTES)
                         : "memory");
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                         ::"r"(at(stages[s])), "l"(x + i * CONSUMERS), "r"(BYTES), "r"(at(full + s)) : "memory");
        }
    } else {
        unsigned hash = 0;
        for (int i = 0; i < tiles; i++) {
            const int s = i % STAGES, round = i / STAGES;
            wait(&full[s], round & 1);
            const uint4 w = stages[s][threadIdx.x];
            hash = hash * 31 + (w.x ^ w.y ^ w.z ^ w.w);
            __syncwarp();
            if (threadIdx.x % 32 == 0)
                asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at(empty + s)) : "memory");
        }
        out[blockIdx.x * CONSUMERS + threadIdx.x] = hash;
    }
}
"#;

#[test]
fn a_ring_gives_the_same_under_every_schedule() {
    const TILES: usize = 11;
    let x = random_words(12, 2 * TILES * 96 * 4);
    let ptx = compile("ring.cu", RING, 90);
    for seed in SEEDS {
        let options = LaunchOptions {
            seed,
            ..LaunchOptions::default()
        };
        let mut buffers = [bytes_of(x.clone()), vec![0; 2 * 96 * 4]];
        let config = LaunchConfig::linear(2, 128);
        let report = run(&ptx, "ring", config, options, &mut buffers, &[TILES as u32]);
        assert_clean(&report);
        for (thread, hash) in as_words(&buffers[1]).into_iter().enumerate() {
            let (block, thread) = (thread / 96, thread % 96);
            let expected = (0..TILES).fold(0u32, |hash, tile| {
                let first = ((block * TILES + tile) * 96 + thread) * 4;
                let fold = x[first..first + 4].iter().fold(0, |fold, word| fold ^ word);
                hash.wrapping_mul(31).wrapping_add(fold)
            });
            assert_eq!(hash, expected, "block {block} thread {thread} seed {seed}");
        }
    }
}
