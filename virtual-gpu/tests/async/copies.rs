//! `cp.async` and its groups.

use crate::machine::{as_words, assert_clean, bytes_of, compile, kernel, random_words, run, words};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::{LaunchConfig, LaunchOptions, MmaMode};

const SEEDS: [u64; 4] = [0, 1, 2, 77];

#[test]
fn the_rest_of_a_short_source_is_zero() {
    // Lane l copies l % 17 bytes; the byte after the source of lane 31 is not there.
    let body = "mul.wide.u32 %x0, %lane, 16;\nadd.s64 %x1, %p0, %x0;\nmad.lo.u32 %r1, %lane, 16, %s;\n\
        rem.u32 %r2, %lane, 17;\ncp.async.cg.shared.global [%r1], [%x1], 16, %r2;\n\
        cp.async.wait_all;\nld.shared.v4.b32 {%r3, %r4, %r5, %r6}, [%r1];\n\
        add.s64 %x1, %p1, %x0;\nst.global.v4.b32 [%x1], {%r3, %r4, %r5, %r6};\n";
    let from: Vec<u8> = (0..31 * 16 + 14).map(|i| i as u8 | 1).collect();
    let out = words(body, vec![from.clone(), vec![0xee; 512]]);
    let bytes: Vec<u8> = bytes_of(out);
    for lane in 0..32 {
        for i in 0..16 {
            let expected = if i < lane % 17 {
                from[16 * lane + i]
            } else {
                0
            };
            assert_eq!(bytes[16 * lane + i], expected, "lane {lane} byte {i}");
        }
    }
}

#[test]
fn a_predicate_ignores_the_source() {
    let body = "mul.wide.u32 %x0, %lane, 8;\nadd.s64 %x1, %p0, %x0;\nmad.lo.u32 %r1, %lane, 8, %s;\n\
        setp.gt.u32 %q1, %lane, 3;\ncp.async.ca.shared.global.L2::128B [%r1], [%x1], 8, %q1;\n\
        cp.async.commit_group;\ncp.async.wait_group 0;\nld.shared.v2.b32 {%r3, %r4}, [%r1];\n\
        add.s64 %x1, %p1, %x0;\nst.global.v2.b32 [%x1], {%r3, %r4};\n";
    // Only four sources exist.
    let from = random_words(3, 8);
    let out = words(body, vec![bytes_of(from.clone()), vec![0xee; 256]]);
    assert_eq!(out[..8], from);
    assert_eq!(out[8..], [0; 56]);
}

#[test]
fn lanes_wait_for_groups_of_their_own() {
    // Even lanes close two groups and wait for the first; odd lanes close one and wait for it.
    let body = "mul.wide.u32 %x0, %lane, 4;\nadd.s64 %x1, %p0, %x0;\nmad.lo.u32 %r1, %lane, 4, %s;\n\
        and.b32 %r2, %lane, 1;\nsetp.eq.u32 %q1, %r2, 0;\n\
        cp.async.ca.shared.global [%r1], [%x1], 4;\ncp.async.commit_group;\n\
        @!%q1 bra odd;\n\
        cp.async.ca.shared.global [%r1+128], [%x1+128], 4;\ncp.async.commit_group;\ncp.async.wait_group 1;\nbra both;\n\
        odd: cp.async.wait_group 0;\n\
        both: ld.shared.b32 %r3, [%r1];\nadd.s64 %x1, %p1, %x0;\nst.global.b32 [%x1], %r3;\n";
    let from = random_words(4, 64);
    let out = words(body, vec![bytes_of(from.clone()), vec![0; 128]]);
    assert_eq!(out, from[..32]);
}

fn first_kind(body: &str, buffers: &mut [Vec<u8>], seed: u64) -> Option<FindingKind> {
    let options = LaunchOptions {
        seed,
        ..LaunchOptions::default()
    };
    let ptx = kernel(buffers.len(), body);
    run(
        &ptx,
        "test",
        LaunchConfig::linear(1, 32),
        options,
        buffers,
        &[],
    )
    .first_kind()
}

#[test]
fn what_goes_wrong_is_named() {
    let start =
        "mul.wide.u32 %x0, %lane, 16;\nadd.s64 %x1, %p0, %x0;\nmad.lo.u32 %r1, %lane, 16, %s;\n";
    let copy = "cp.async.cg.shared.global [%r1], [%x1], 16;\ncp.async.commit_group;\n";
    let cases = [
        (
            "ld.shared.b32 %r2, [%r1];\n",
            512,
            FindingKind::PendingAsyncRead,
        ),
        (
            "st.shared.b32 [%r1+12], %r1;\n",
            512,
            FindingKind::PendingAsyncRead,
        ),
        (
            "cp.async.wait_group 1;\nld.shared.b32 %r2, [%r1+4];\n",
            512,
            FindingKind::PendingAsyncRead,
        ),
        ("cp.async.wait_group 0;\n", 511, FindingKind::OutOfBounds),
    ];
    for (rest, bytes, expected) in cases {
        for seed in SEEDS {
            let found = first_kind(&format!("{start}{copy}{rest}"), &mut [vec![1; bytes]], seed);
            assert_eq!(found, Some(expected), "{rest} seed {seed}");
        }
    }
    let crooked = "cp.async.cg.shared.global [%r1+8], [%x1], 16;\n";
    let found = first_kind(&format!("{start}{crooked}"), &mut [vec![1; 512]], 0);
    assert_eq!(found, Some(FindingKind::Misaligned));
    let beyond = "cp.async.cg.shared.global [%r1+4080], [%x1], 16;\n";
    let found = first_kind(&format!("{start}{beyond}"), &mut [vec![1; 512]], 0);
    assert_eq!(found, Some(FindingKind::OutOfBounds));
    let large = "mov.u32 %r2, 17;\ncp.async.cg.shared.global [%r1], [%x1], 16, %r2;\n";
    let found = first_kind(&format!("{start}{large}"), &mut [vec![1; 1024]], 0);
    assert_eq!(found, Some(FindingKind::OutOfBounds));
}

#[test]
fn copies_are_counted() {
    let body = "mul.wide.u32 %x0, %lane, 16;\nadd.s64 %x1, %p0, %x0;\nmad.lo.u32 %r1, %lane, 16, %s;\n\
        cp.async.cg.shared.global [%r1], [%x1], 16;\ncp.async.wait_all;\n\
        cp.async.cg.shared.global [%r1], [%x1], 16;\ncp.async.wait_all;\n";
    let options = LaunchOptions::default();
    let config = LaunchConfig::linear(1, 32);
    let report = run(
        &kernel(1, body),
        "test",
        config,
        options,
        &mut [vec![1; 512]],
        &[],
    );
    assert_clean(&report);
    let memory = report.counters.memory;
    assert_eq!(
        (memory.async_bytes, memory.global_unique_read_bytes),
        (1024, 512)
    );
    assert_eq!(
        (memory.shared_wavefronts, memory.shared_ideal_wavefronts),
        (8, 8)
    );
}

/// C = A B^T in bf16 over four stages, the rows of a stage padded against bank conflicts.
const GEMM: &str = r#"
constexpr int STAGES = 4, DEPTH = 32, PITCH = DEPTH + 8;
__device__ __forceinline__ unsigned at(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void load4(unsigned (&r)[4], const unsigned short* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at(from)) : "memory");
}
__device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// A (64, k), B (64, k), C (64, 64); 4 warps, each 16 rows.
extern "C" __global__ void __launch_bounds__(128)
gemm(const unsigned short* a, const unsigned short* b, float* c, int k) {
    __shared__ __align__(16) unsigned short tiles[STAGES][2][64 * PITCH];
    const int t = threadIdx.x, lane = t % 32, row0 = t / 32 * 16, steps = k / DEPTH;
    auto fetch = [&](int step) {
        if (step < steps)
            for (int i = t; i < 2 * 64 * 4; i += 128) {
                const int side = i / 256, row = i / 4 % 64, part = i % 4 * 8;
                const unsigned short* from = (side ? b : a) + row * k + step * DEPTH + part;
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                             ::"r"(at(&tiles[step % STAGES][side][row * PITCH + part])), "l"(from) : "memory");
            }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    for (int step = 0; step < STAGES - 1; step++) fetch(step);
    float sum[8][4] = {};
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads();
        fetch(step + STAGES - 1);
        const unsigned short *ta = tiles[step % STAGES][0], *tb = tiles[step % STAGES][1];
        for (int depth = 0; depth < DEPTH; depth += 16) {
            unsigned fa[4];
            load4(fa, ta + (row0 + lane % 16) * PITCH + depth + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < 8; j += 2) {
                unsigned fb[4];
                load4(fb, tb + (j * 8 + lane % 8 + lane / 16 * 8) * PITCH + depth + lane / 8 % 2 * 8);
                multiply(sum[j], fa, fb[0], fb[1]);
                multiply(sum[j + 1], fa, fb[2], fb[3]);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
        for (int v = 0; v < 4; v++)
            c[(row0 + lane / 4 + v / 2 * 8) * 64 + j * 8 + lane % 4 * 2 + v % 2] = sum[j][v];
}
"#;

#[test]
fn a_product_over_stages_is_that_of_plain_loops() {
    const K: usize = 224;
    // Small whole numbers: every sum is exact.
    let matrix = |seed| -> Vec<f32> {
        let words = random_words(seed, 64 * K);
        words.iter().map(|word| (word % 7) as f32 - 3.0).collect()
    };
    let bf16 = |values: &[f32]| -> Vec<u8> {
        let halves = values.iter().map(|x| (x.to_bits() >> 16) as u16);
        halves.flat_map(u16::to_le_bytes).collect()
    };
    let (a, b) = (matrix(1), matrix(2));
    let ptx = compile("gemm.cu", GEMM, 80);
    for (seed, mma) in SEEDS
        .into_iter()
        .zip([MmaMode::Fast, LaunchOptions::default().mma].repeat(2))
    {
        let options = LaunchOptions {
            seed,
            mma,
            ..LaunchOptions::default()
        };
        let mut buffers = [bf16(&a), bf16(&b), vec![0; 64 * 64 * 4]];
        let config = LaunchConfig::linear(1, 128);
        let report = run(&ptx, "gemm", config, options, &mut buffers, &[K as u32]);
        assert_clean(&report);
        let out = as_words(&buffers[2]);
        for i in 0..64 {
            for j in 0..64 {
                let sum: f32 = (0..K).map(|l| a[i * K + l] * b[j * K + l]).sum();
                assert_eq!(
                    f32::from_bits(out[i * 64 + j]),
                    sum,
                    "row {i} column {j} seed {seed}"
                );
            }
        }
    }
}
