//! `mbarrier`: phases, states, and what goes wrong.

use crate::machine::{as_words, assert_clean, compile, kernel, random_words, run, words};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::{LaunchConfig, LaunchOptions, Module};

/// A kernel body of one thread; `%r40` and on are stored to the buffer at its end.
fn alone(text: &str, results: usize) -> String {
    let mut body = format!("setp.ne.u32 %q0, %lane, 0;\n@%q0 bra past;\n{text}\n");
    for i in 0..results {
        body += &format!("st.global.b32 [%p0+{}], %r{};\n", 4 * i, 40 + i);
    }
    body + "past:\n"
}

#[test]
fn a_phase_is_over_when_all_have_arrived_and_all_bytes_are_there() {
    let wait = |register: usize, parity: u32| {
        format!(
            "mbarrier.test_wait.parity.shared::cta.b64 %q1, [%s+8], {parity};\nselp.b32 %r{register}, 1, 0, %q1;\n"
        )
    };
    let text = [
        "mbarrier.init.shared.b64 [%s+8], 3;\n".to_string(),
        // The phase before the first one counts as over.
        wait(40, 1),
        wait(41, 0),
        "mbarrier.arrive.shared.b64 %x1, [%s+8];\nmbarrier.pending_count.b64 %r42, %x1;\n".into(),
        "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%s+8], 32;\n".into(),
        "mbarrier.arrive.release.cta.shared::cta.b64 %x2, [%s+8], 2;\nmbarrier.pending_count.b64 %r43, %x2;\n".into(),
        wait(44, 0),
        "mbarrier.complete_tx.shared::cluster.b64 [%s+8], 32;\n".into(),
        wait(45, 0),
        wait(46, 1),
        "mbarrier.test_wait.shared.b64 %q2, [%s+8], %x1;\nselp.b32 %r47, 1, 0, %q2;\n".into(),
        "mbarrier.arrive.noComplete.shared.b64 %x3, [%s+8], 2;\n".into(),
        "mbarrier.test_wait.shared.b64 %q2, [%s+8], %x3;\nselp.b32 %r48, 1, 0, %q2;\n".into(),
        "mbarrier.arrive_drop.shared.b64 %x4, [%s+8];\nmbarrier.pending_count.b64 %r49, %x4;\n".into(),
        "mbarrier.arrive.shared.b64 %x5, [%s+8];\nmbarrier.pending_count.b64 %r50, %x5;\n".into(),
        "mbarrier.inval.shared.b64 [%s+8];\nmbarrier.init.shared.b64 [%s+8], 1;\n".into(),
    ]
    .concat();
    let out = words(&alone(&text, 11), vec![vec![0; 44]]);
    assert_eq!(out, [1, 0, 3, 2, 0, 1, 0, 1, 0, 1, 2]);
}

#[test]
fn addresses_may_be_generic_or_wide() {
    let text = "cvt.u64.u32 %x0, %s;\ncvta.shared.u64 %x1, %x0;\nmbarrier.init.b64 [%x1], 1;\n\
        mbarrier.arrive.expect_tx.shared::cluster.b64 _, [%x0], 16;\n\
        mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [%s], 16;\n\
        again: mbarrier.try_wait.parity.acquire.cta.b64 %q1, [%x1], 0, 1000;\n@!%q1 bra again;\nmov.b32 %r40, 5;";
    assert_eq!(words(&alone(text, 1), vec![vec![0; 4]]), [5]);
}

#[test]
fn misuse_is_found() {
    let init = "mbarrier.init.shared.b64 [%s], 2;\n";
    let cases = [
        ("mbarrier.arrive.shared.b64 %x1, [%s];", "no mbarrier"),
        (
            "mbarrier.try_wait.parity.shared.b64 %q1, [%s], 0;",
            "no mbarrier",
        ),
        ("mbarrier.inval.shared.b64 [%s];", "no mbarrier"),
        ("mbarrier.init.shared.b64 [%s], 0;", "0 arrivals"),
        ("mbarrier.init.shared.b64 [%s+4], 1;", "multiple of 8"),
        ("mbarrier.init.b64 [%p0], 1;", "not in shared"),
        (
            "INIT mbarrier.arrive.shared.b64 %x1, [%s], 3;",
            "3 arrivals",
        ),
        ("INIT mbarrier.arrive.shared.b64 %x1, [%s], 0;", "no thread"),
        (
            "INIT mbarrier.arrive.noComplete.shared.b64 %x1, [%s], 2;",
            "noComplete",
        ),
        ("INIT mbarrier.arrive.shared.b64 %x1, [%s]; INIT", "again"),
        ("INIT st.shared.b32 [%s+4], 7;", "goes over"),
        (
            "INIT mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%s], 1048576;",
            "1048576 bytes",
        ),
        (
            "INIT mbarrier.inval.shared.b64 [%s]; mbarrier.arrive.shared.b64 %x1, [%s];",
            "no mbarrier",
        ),
        (
            "INIT mbarrier.complete_tx.shared::cta.b64 [%s], 16; mbarrier.arrive.shared::cta.b64 _, [%s], 2;",
            "16 bytes more",
        ),
    ];
    for (text, word) in cases {
        let body = alone(&text.replace("INIT", init), 0);
        let (ptx, options) = (kernel(1, &body), LaunchOptions::default());
        let report = run(
            &ptx,
            "test",
            LaunchConfig::linear(1, 32),
            options,
            &mut [vec![0; 4]],
            &[],
        );
        let first = report.findings.first().unwrap_or_else(|| panic!("{text}"));
        assert_eq!(first.kind, FindingKind::MbarrierMisuse, "{text}: {first}");
        assert!(first.message.contains(word), "{text}: {first}");
    }
}

#[test]
fn unchecked_stores_over_an_mbarrier_show_at_its_next_use() {
    let body = alone(
        "mbarrier.init.shared.b64 [%s], 2;\nst.shared.b32 [%s+4], -1;\nmbarrier.arrive.shared.b64 %x1, [%s];",
        0,
    );
    let options = LaunchOptions {
        checks: virtual_gpu::Checks::Bounds,
        ..LaunchOptions::default()
    };
    let report = run(
        &kernel(0, &body),
        "test",
        LaunchConfig::linear(1, 32),
        options,
        &mut [],
        &[],
    );
    assert_eq!(report.first_kind(), Some(FindingKind::MbarrierMisuse));
}

#[test]
fn a_phase_that_nobody_completes_is_a_deadlock() {
    for wait in ["test_wait", "try_wait"] {
        let text = format!(
            "mbarrier.init.shared.b64 [%s], 2;\nmbarrier.arrive.shared.b64 %x1, [%s];\n\
             again: mbarrier.{wait}.parity.shared.b64 %q1, [%s], 0;\n@!%q1 bra again;\n"
        );
        let (ptx, options) = (kernel(0, &alone(&text, 0)), LaunchOptions::default());
        let report = run(
            &ptx,
            "test",
            LaunchConfig::linear(1, 32),
            options,
            &mut [],
            &[],
        );
        assert_eq!(report.first_kind(), Some(FindingKind::Deadlock), "{wait}");
        assert!(
            report.findings[0].message.contains("shared"),
            "{}",
            report.findings[0]
        );
    }
}

#[test]
fn other_instructions_are_refused_by_name() {
    let forms = [
        (
            "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %x0, %x1, %r0, 0, 1, 1, 1, 0, 0;",
            "sparse",
        ),
        ("tcgen05.wait::ld.sync.aligned;", "not supported yet"),
        (
            "cp.async.bulk.tensor.3d.im2col.shared::cta.global.mbarrier::complete_tx::bytes [%s], [%x0, {%r0, %r1, %r2}], [%s], {%r3};",
            "im2col",
        ),
        (
            "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%s], [%x0, {%r0}], [%s];",
            "2 coordinates",
        ),
        (
            "tensormap.replace.tile.rank.global.b1024.b32 [%x0], 1;",
            "not supported yet",
        ),
        (
            "multimem.ld_reduce.global.add.u32 %r0, [%x0];",
            "not supported yet",
        ),
        (
            "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes.multicast::cluster [%s], [%x0], 16, [%s], %r0;",
            "many blocks",
        ),
        ("mbarrier.whatever.b64 [%s];", "unknown operation"),
    ];
    for (text, word) in forms {
        let error = Module::from_ptx(&kernel(0, text)).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
        assert!(error.contains("line"), "{error}");
    }
}

/// Four warps pass words around in a circle: warp w adds w and hands on, `rounds` times.
const CIRCLE: &str = r#"
extern "C" __global__ void circle(unsigned* out, int rounds) {
    __shared__ unsigned value[32];
    __shared__ __align__(8) unsigned long long turn[4];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    unsigned own = (unsigned)__cvta_generic_to_shared(turn + warp);
    unsigned next = (unsigned)__cvta_generic_to_shared(turn + (warp + 1) % 4);
    if (lane == 0) asm volatile("mbarrier.init.shared::cta.b64 [%0], 32;" ::"r"(own) : "memory");
    if (warp == 0) value[lane] = lane;
    __syncthreads();
    for (int i = 0; i < rounds; i++) {
        if (warp != 0 || i > 0)
            asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                         "@!p bra again; }" ::"r"(own), "r"((warp == 0 ? i - 1 : i) & 1) : "memory");
        value[lane] = value[lane] * 3 + warp;
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(next) : "memory");
    }
    if (warp == 3) out[lane] = value[lane];
}
"#;

#[test]
fn warps_hand_on_by_mbarriers() {
    let ptx = compile("circle.cu", CIRCLE, 90);
    for seed in 0..6 {
        let options = LaunchOptions {
            seed,
            ..LaunchOptions::default()
        };
        let mut buffers = [vec![0; 128]];
        let report = run(
            &ptx,
            "circle",
            LaunchConfig::linear(1, 128),
            options,
            &mut buffers,
            &[9],
        );
        assert_clean(&report);
        for (lane, word) in as_words(&buffers[0]).into_iter().enumerate() {
            let steps = (0..36).map(|step| step % 4);
            let expected = steps.fold(lane as u32, |value, warp| value.wrapping_mul(3) + warp);
            assert_eq!(word, expected, "lane {lane} seed {seed}");
        }
    }
}

/// Copies of a warp arrive at an mbarrier, where another warp waits for them.
const COPIED: &str = r#"
extern "C" __global__ void copied(const uint4* x, uint4* y) {
    __shared__ uint4 tile[64];
    __shared__ __align__(8) unsigned long long full;
    int t = threadIdx.x;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&full);
    if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], COUNT;" ::"r"(bar) : "memory");
    __syncthreads();
    if (t < 32) {
        for (int i = t; i < 64; i += 32)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                         ::"r"((unsigned)__cvta_generic_to_shared(tile + i)), "l"(x + i) : "memory");
        asm volatile("cp.async.mbarrier.arrive.KIND.b64 [%0];" ::"r"(bar) : "memory");
        if (EXTRA) asm volatile("{ .reg .b64 s; mbarrier.arrive.shared.b64 s, [%0]; }" ::"r"(bar) : "memory");
    } else {
        WAIT
        y[t - 32] = tile[t - 32];
        y[t] = tile[95 - t];
    }
}
"#;

#[test]
fn copies_arrive_at_mbarriers() {
    let wait = r#"asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n"
                               "@!p bra again; }" ::"r"(bar) : "memory");"#;
    let x = random_words(5, 256);
    for (kind, extra, waits) in [
        ("noinc.shared", "0", true),
        ("shared", "1", true),
        ("noinc.shared", "0", false),
    ] {
        let source = COPIED
            .replace("KIND", kind)
            .replace("EXTRA", extra)
            .replace("COUNT", "32")
            .replace("WAIT", if waits { wait } else { "" });
        let ptx = compile("copied.cu", &source, 90);
        for seed in 0..4 {
            let options = LaunchOptions {
                seed,
                ..LaunchOptions::default()
            };
            let mut buffers = [crate::machine::bytes_of(x.clone()), vec![0; 1024]];
            let report = run(
                &ptx,
                "copied",
                LaunchConfig::linear(1, 64),
                options,
                &mut buffers,
                &[],
            );
            if !waits {
                let kinds: Vec<FindingKind> = report.findings.iter().map(|f| f.kind).collect();
                assert!(!kinds.is_empty(), "seed {seed}");
                continue;
            }
            assert_clean(&report);
            let y = as_words(&buffers[1]);
            for i in 0..32 {
                assert_eq!(y[4 * i..4 * i + 4], x[4 * i..4 * i + 4]);
                let from = 63 - i;
                assert_eq!(y[128 + 4 * i..132 + 4 * i], x[4 * from..4 * from + 4]);
            }
        }
    }
}

/// Copies of a warp to eight places, each with an mbarrier of its own, where another warp waits for one after the other.
const STAGES: &str = r#"
extern "C" __global__ void stages(const uint4* x, uint4* y) {
    __shared__ uint4 tile[8 * 32];
    __shared__ __align__(8) unsigned long long full[8];
    int lane = threadIdx.x % 32;
    unsigned bar = (unsigned)__cvta_generic_to_shared(full);
    if (threadIdx.x < 8) asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(bar + 8 * threadIdx.x) : "memory");
    __syncthreads();
    for (int i = 0; i < 8; i++) {
        if (threadIdx.x < 32) {
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                         ::"r"((unsigned)__cvta_generic_to_shared(tile + 32 * i + lane)), "l"(x + 32 * i + lane) : "memory");
            asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(bar + 8 * i) : "memory");
        } else {
            asm volatile("{ .reg .pred p; again: mbarrier.test_wait.parity.shared.b64 p, [%0], 0;\n"
                         "@!p bra again; }" ::"r"(bar + 8 * i) : "memory");
            y[32 * i + lane] = tile[32 * i + 31 - lane];
        }
    }
}
"#;

#[test]
fn copies_belong_to_the_first_arrival_after_them() {
    let x = random_words(6, 1024);
    let ptx = compile("stages.cu", STAGES, 80);
    for seed in 0..60 {
        let options = LaunchOptions {
            seed,
            ..LaunchOptions::default()
        };
        let mut buffers = [crate::machine::bytes_of(x.clone()), vec![0; 4096]];
        let config = LaunchConfig::linear(1, 64);
        let report = run(&ptx, "stages", config, options, &mut buffers, &[]);
        assert_clean(&report);
        let y = as_words(&buffers[1]);
        for (i, word) in y.into_iter().enumerate() {
            let (stage, lane) = (i / 128, i / 4 % 32);
            assert_eq!(word, x[stage * 128 + (31 - lane) * 4 + i % 4]);
        }
    }
}
