//! How long instructions of the whole warp take: `cargo test --test async -- --ignored --nocapture cost`.

use crate::machine::{kernel, run};
use std::time::Instant;
use virtual_gpu::{Checks, LaunchConfig, LaunchOptions, MmaMode};

/// Time of an instruction in a loop over 16 of them, with and without checks and counters.
fn cost(name: &str, text: &str, mma: MmaMode) {
    let head = "mad.lo.u32 %r0, %lane, 16, %s;\nst.shared.v4.b32 [%r0], {0, 0, 0, 0};\nbar.warp.sync -1;\n\
        mov.u32 %r50, 0;\nmov.b32 %r1, 0;\nmov.b32 %r2, 0;\nmov.b32 %r3, 0;\nmov.b32 %r4, 0;\nmov.b32 %r5, 0;\n\
        mov.b32 %r6, 0;\nmov.f32 %f0, 0f3F800000;\nmov.f32 %f1, %f0;\nmov.f32 %f2, %f0;\nmov.f32 %f3, %f0;\nmov.f64 %d0, 0d3FF0000000000000;\nagain:\n";
    let tail = "add.u32 %r50, %r50, 1;\nsetp.lt.u32 %q0, %r50, 2000;\n@%q0 bra again;\n";
    let ptx = kernel(0, &format!("{head}{}{tail}", text.repeat(16)));
    for (checks, counters) in [(Checks::Bounds, false), (Checks::All, true)] {
        let options = LaunchOptions {
            checks,
            counters,
            mma,
            ..LaunchOptions::default()
        };
        let start = Instant::now();
        let report = run(
            &ptx,
            "test",
            LaunchConfig::linear(1, 32),
            options,
            &mut [],
            &[],
        );
        assert!(report.completed, "{:?}", report.findings);
        let each = start.elapsed().as_nanos() as f64 / 32_000.0;
        println!("{name:24} {checks:?}: {each:.0} ns");
    }
}

#[test]
#[ignore = "prints times"]
fn cost_of_matrices() {
    let exact = LaunchOptions::default().mma;
    cost(
        "ldmatrix.x4",
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2, %r3, %r4}, [%r0];\n",
        exact,
    );
    cost(
        "ldmatrix.x4.trans",
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r1, %r2, %r3, %r4}, [%r0];\n",
        exact,
    );
    for (mode, name) in [(MmaMode::Fast, "fast"), (exact, "exact")] {
        for (ty, k) in [("bf16", 16), ("f16", 16), ("e4m3", 32), ("tf32", 8)] {
            let text = format!(
                "mma.sync.aligned.m16n8k{k}.row.col.f32.{ty}.{ty}.f32 {{%f0, %f1, %f2, %f3}}, {{%r1, %r2, %r3, %r4}}, \
                 {{%r5, %r6}}, {{%f0, %f1, %f2, %f3}};\n"
            );
            cost(&format!("mma {ty} {name}"), &text, mode);
        }
    }
    cost(
        "mma f64",
        "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%d1, %d2}, {%d0}, {%d0}, {%d0, %d0};\n",
        exact,
    );
}
