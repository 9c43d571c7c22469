//! Branches, loops, calls, ends, special registers.

use crate::harness::{HEAD, run};
use virtual_gpu::{LaunchConfig, Module};

const THREADS: u32 = 200;

struct Case {
    text: String,
    config: LaunchConfig,
    reference: fn(u64) -> [u64; 2],
}

fn kernel(functions: &str, body: &str) -> String {
    format!(
        "{HEAD}{functions}\n.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .b16 h<8>; .reg .b32 i, n, z, r<16>;\n\
         .reg .b64 to, at, d<16>; .reg .pred p<8>; .reg .f64 f<4>;\nmov.u32 i, %ctaid.x;\nmov.u32 n, %ntid.x;\n\
         mov.u32 z, %tid.x;\nmad.lo.u32 i, i, n, z;\nld.param.u64 to, [out];\nmul.wide.u32 at, i, 16;\n\
         add.s64 to, to, at;\nmov.u64 d0, 0;\nmov.u64 d1, 0;\n{body}\nst.global.u64 [to], d0;\nst.global.u64 [to+8], d1;\nret;\n}}\n"
    )
}

fn collatz(i: u64) -> u64 {
    let (mut x, mut steps) = (i + 1, 0);
    while x != 1 {
        x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
        steps += 1;
    }
    steps
}

fn cases() -> Vec<Case> {
    let linear = LaunchConfig::linear(3, 72);
    let case = |functions: &str, body: &str, reference| Case {
        text: kernel(functions, body),
        config: linear,
        reference,
    };
    let square = ".func (.param .b32 result) square(.param .b32 x)\n{\n.reg .b32 a;\nld.param.b32 a, [x];\n\
                  mul.lo.u32 a, a, a;\nst.param.b32 [result], a;\nret;\n}\n\
                  .func (.param .b32 result) plus(.param .b32 x)\n{\n.reg .b32 a; .reg .pred p;\nld.param.b32 a, [x];\n\
                  setp.gt.u32 p, a, 100;\n@p bra large;\nadd.u32 a, a, 7;\nst.param.b32 [result], a;\nret;\n\
                  large:\nst.param.b32 [result], 1;\nret;\n}\n";
    let widths = ".func (.param .align 8 .b8 result[16]) mix(.param .b32 a, .param .b64 b, .param .align 4 .b8 c[8], \
                  .param .b32 e)\n{\n.reg .b16 h<4>; .reg .b32 r<8>; .reg .b64 d<8>;\nld.param.s8 r0, [a];\n\
                  ld.param.b64 d0, [b];\nld.param.v2.b32 {r1, r2}, [c];\nld.param.u16 h0, [e+2];\ncvt.s64.s32 d1, r0;\n\
                  add.s64 d0, d0, d1;\nmul.wide.u32 d2, r1, r2;\ncvt.u64.u16 d3, h0;\nadd.s64 d2, d2, d3;\n\
                  st.param.b64 [result], d0;\nst.param.b64 [result+8], d2;\nret;\n}\n\
                  .func empty()\n{\nret.uni;\n}\n";
    vec![
        // Loops whose lanes leave at different times.
        case(
            "",
            "add.u32 r0, i, 1;\nmov.u32 r1, 0;\nhead:\nsetp.eq.u32 p0, r0, 1;\n@p0 bra out;\nand.b32 r2, r0, 1;\n\
             setp.eq.u32 p1, r2, 0;\n@p1 bra even;\nmad.lo.u32 r0, r0, 3, 1;\nbra.uni next;\neven:\nshr.u32 r0, r0, 1;\n\
             next:\nadd.u32 r1, r1, 1;\nbra head;\nout:\ncvt.u64.u32 d0, r1;",
            |i| [collatz(i), 0],
        ),
        // Nested branches, with scopes that hide registers and labels of the same name.
        case(
            "",
            "and.b32 r0, i, 3;\nsetp.lt.u32 p0, r0, 2;\n@!p0 bra else1;\n{\n.reg .b32 r0;\nand.b32 r0, i, 1;\n\
             setp.eq.u32 p1, r0, 0;\n@p1 bra inner;\nmov.u64 d0, 11;\nbra end1;\ninner:\nmov.u64 d0, 10;\n}\nbra end1;\n\
             else1:\nsetp.eq.u32 p2, r0, 2;\nselp.u64 d0, 12, 13, p2;\nend1:\ncvt.u64.u32 d1, r0;",
            |i| [10 + i % 4, i % 4],
        ),
        // A table of targets.
        case(
            "",
            "rem.u32 r0, i, 5;\nlist: .branchtargets b0, b1, b2, b1, b3;\nbrx.idx r0, list;\nb0: mov.u64 d0, 100;\nbra join;\n\
             b1: mov.u64 d0, 101;\nbra join;\nb2: add.s64 d0, d0, 102;\nb3: add.s64 d0, d0, 103;\njoin:\nlist2: .branchtargets c0, c1;\nbrx.idx.uni 1, list2;\n\
             c0: mov.u64 d1, 1;\nc1: add.s64 d1, d1, 2;",
            |i| [[100, 101, 205, 101, 103][i as usize % 5], 2],
        ),
        // Direct calls, in a branch.
        case(
            square,
            "and.b32 r0, i, 1;\nsetp.eq.u32 p0, r0, 1;\n{\n.param .b32 a0;\n.param .b32 v0;\nst.param.b32 [a0], i;\n\
             @p0 call.uni (v0), square, (a0);\n@!p0 call (v0), plus, (a0);\nld.param.b32 r1, [v0];\n}\ncvt.u64.u32 d0, r1;",
            |i| {
                [
                    if i % 2 == 1 {
                        i * i
                    } else if i > 100 {
                        1
                    } else {
                        i + 7
                    },
                    0,
                ]
            },
        ),
        // Through a pointer that differs between lanes.
        case(
            square,
            "and.b32 r0, i, 2;\nsetp.eq.u32 p0, r0, 0;\nmov.u64 d2, square;\nmov.u64 d3, plus;\nselp.b64 d4, d2, d3, p0;\n\
             {\n.param .b32 a0;\n.param .b32 v0;\nst.param.b32 [a0], i;\nproto: .callprototype (.param .b32 _) _ (.param .b32 _);\n\
             call (v0), d4, (a0), proto;\nld.param.b32 r1, [v0];\n}\ncvt.u64.u32 d0, r1;",
            |i| {
                [
                    if i & 2 == 0 {
                        i * i
                    } else if i > 100 {
                        1
                    } else {
                        i + 7
                    },
                    0,
                ]
            },
        ),
        // Arguments and results of all widths.
        case(
            widths,
            "{\n.param .b32 a;\n.param .b64 b;\n.param .align 4 .b8 c[8];\n.param .b32 e;\n.param .align 8 .b8 v[16];\n\
             sub.u32 r0, 5, i;\nst.param.b32 [a], r0;\ncvt.u64.u32 d2, i;\nst.param.b64 [b], d2;\nst.param.v2.b32 [c], {i, 1000};\n\
             shl.b32 r1, i, 16;\nst.param.b32 [e], r1;\ncall empty;\ncall.uni (v), mix, (a, b, c, e);\n\
             ld.param.v2.b64 {d0, d1}, [v];\n}",
            |i| {
                [
                    (i as i64 + i64::from((5 - i as i64) as i8)) as u64,
                    1001 * i,
                ]
            },
        ),
        // Lanes that end early, others that go on; exit of one lane only.
        case(
            "",
            "setp.ge.u32 p0, i, 50;\nsetp.lt.u32 p1, i, 60;\nand.pred p2, p0, p1;\n@p2 exit;\nmov.u64 d0, 5;\n\
             setp.eq.u32 p3, i, 70;\n@p3 ret;\nadd.s64 d0, d0, 1;\npmevent 1;",
            |i| {
                [
                    if (50..60).contains(&i) || i == 70 {
                        0
                    } else {
                        6
                    },
                    0,
                ]
            },
        ),
        // Special registers of a flat block.
        case(
            "",
            "mov.u32 r0, %laneid;\nmov.u32 r1, %warpid;\nmov.u32 r2, %lanemask_lt;\nmov.u32 r3, %lanemask_ge;\n\
             mov.u32 r4, %lanemask_eq;\nmov.u32 r5, %lanemask_le;\nmov.u32 r6, %lanemask_gt;\nxor.b32 r2, r2, r3;\n\
             xor.b32 r5, r5, r6;\nand.b32 r2, r2, r5;\nand.b32 r3, r3, r4;\nmad.lo.u32 r1, r1, 32, r0;\nmov.b64 d0, {r1, r3};\n\
             mov.b64 d1, {r2, 0};\nmov.u64 d2, %clock64;\nmov.u32 r7, %clock;\nmov.u32 r8, %clock_hi;\nmov.u64 d3, %globaltimer;\n\
             mov.u32 r9, %globaltimer_lo;\nmov.u32 r10, %smid;\nmov.u32 r11, %nsmid;\nsetp.lt.u32 p0, r10, r11;\n\
             mov.u64 d4, %clock64;\nsetp.gt.u64 p1, d4, d2;\nand.pred p0, p0, p1;\n@!p0 trap;",
            |i| {
                let thread = i % 72;
                [thread | 1 << (32 + thread % 32), 0xffff_ffff]
            },
        ),
        Case {
            text: kernel(
                "",
                "mov.u32 r0, %tid.x;\nmov.u32 r1, %tid.y;\nmov.u32 r2, %tid.z;\nmov.u32 r3, %ntid.y;\nmov.u32 r4, %ntid.z;\n\
                 mad.lo.u32 r5, r2, r3, r1;\nmad.lo.u32 r5, r5, n, r0;\nmov.u32 r6, %ctaid.y;\nmov.u32 r7, %ctaid.z;\n\
                 mov.u32 r8, %nctaid.x;\nmov.u32 r9, %nctaid.y;\nmov.u32 r10, %nctaid.z;\nmov.u32 r11, %ctaid.x;\n\
                 mad.lo.u32 r7, r7, r9, r6;\nmad.lo.u32 r7, r7, r8, r11;\nmul.lo.u32 r12, n, r3;\nmul.lo.u32 r12, r12, r4;\n\
                 mad.lo.u32 i, r7, r12, r5;\nld.param.u64 to, [out];\nmul.wide.u32 at, i, 16;\nadd.s64 to, to, at;\n\
                 mul.lo.u32 r10, r10, r9;\nmov.b64 d0, {i, r10};\nmov.u32 r13, %nwarpid;\nmov.u32 r14, %dynamic_smem_size;\n\
                 cvt.u64.u32 d1, r14;",
            ),
            config: LaunchConfig {
                grid: [2, 1, 2],
                block: [5, 5, 2],
                dynamic_shared: 96,
                cooperative: false,
                cluster: None,
            },
            reference: |i| [i | 2 << 32, 96],
        },
    ]
}

pub fn texts() -> Vec<String> {
    cases().into_iter().map(|case| case.text).collect()
}

#[test]
fn flow() {
    let mut failures = Vec::new();
    for case in cases() {
        let module = match Module::from_ptx(&case.text) {
            Ok(module) => module,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        let threads = u64::from(case.config.threads()) * case.config.blocks();
        assert!(threads >= u64::from(THREADS));
        let out = run(&module, &case.config, &[0; 8], 16 * threads as usize);
        for (thread, row) in out.chunks_exact(16).enumerate() {
            let got = [0, 8].map(|at| u64::from_le_bytes(row[at..][..8].try_into().unwrap()));
            let want = (case.reference)(thread as u64);
            if got != want {
                let head = &case.text[case.text.len().saturating_sub(300)..];
                failures.push(format!(
                    "thread {thread}: {got:x?}, expected {want:x?} in ...{head}"
                ));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn recursion_through_a_pointer_ends_the_launch() {
    let call = "{ .param .b64 a; st.param.b64 [a], d; proto: .callprototype _ (.param .b64 _); call d, (a), proto; }";
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .func f(.param .b64 p)\n{{ .reg .b64 d; ld.param.b64 d, [p];\n{call}\nret; }}\n\
         .visible .entry k()\n{{ .reg .b64 d; mov.b64 d, f;\n{call}\nret; }}\n"
    );
    let module = virtual_gpu::Module::from_ptx(&text).unwrap();
    let mut device = virtual_gpu::Device::new(virtual_gpu::Profile::h100());
    let config = virtual_gpu::LaunchConfig::linear(1, 32);
    let report = device
        .launch(&module, "k", &config, &[], &Default::default())
        .unwrap();
    assert!(!report.completed);
    let message = report.findings[0].to_string();
    assert!(message.contains("recursion is not supported"), "{message}");
}
