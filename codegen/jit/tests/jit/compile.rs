//! PTX, cubins, reports, names and errors of a real NVRTC.

use stheno_jit::{CompileError, KernelResources, Request, Target};

use crate::{AXPY, nvrtc, nvrtc_name};

fn real(name: &str) -> Target {
    Target::Real(name.to_owned())
}

/// The message of a source that must not compile.
fn rejection(request: &Request) -> String {
    match nvrtc().compile(request) {
        Err(error @ CompileError::Rejected(_)) => error.to_string(),
        other => panic!("expected a rejection, found {other:?}"),
    }
}

#[test]
fn a_virtual_target_gives_ptx_and_no_cubin() {
    let compiled = nvrtc()
        .compile(&Request::new("axpy.cu", AXPY, Target::Virtual(80)))
        .unwrap();
    let ptx = compiled.ptx.unwrap();
    assert!(ptx.contains(".target sm_80"), "{ptx}");
    assert!(ptx.contains(".visible .entry axpy("), "{ptx}");
    assert!(!ptx.contains('\0'));
    assert_eq!(compiled.cubin, None);
    assert_eq!(compiled.resources, []);
}

#[test]
fn every_architecture_gives_a_cubin_with_its_ptx_and_report() {
    for name in ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"] {
        let compiled = nvrtc()
            .compile(&Request::new("axpy.cu", AXPY, real(name)))
            .unwrap();
        let cubin = compiled.cubin.unwrap();
        assert!(cubin.starts_with(b"\x7fELF"), "{name}");
        // e_machine of an ELF header: EM_CUDA is 190.
        assert_eq!(u16::from_le_bytes([cubin[18], cubin[19]]), 190, "{name}");
        assert!(
            compiled.ptx.unwrap().contains(&format!(".target {name}")),
            "{name}"
        );
        let [kernel] = compiled.resources.as_slice() else {
            panic!("{name}: {}", compiled.log)
        };
        assert_eq!(
            (kernel.name.as_str(), kernel.arch.as_str(), kernel.kernel),
            ("axpy", name, true)
        );
        assert!((4..=32).contains(&kernel.registers), "{name}: {kernel:?}");
        assert_eq!(
            (kernel.spill_stores, kernel.spill_loads, kernel.stack),
            (0, 0, 0),
            "{name}"
        );
    }
}

#[test]
fn the_output_is_the_same_every_time() {
    let request = Request {
        line_info: true,
        ..Request::new("axpy.cu", AXPY, real("sm_89"))
    };
    assert_eq!(
        nvrtc().compile(&request).unwrap(),
        nvrtc().compile(&request).unwrap()
    );
}

#[test]
fn shared_memory_barriers_and_constants_are_reported() {
    let source = r#"
        extern "C" __global__ void reverse(float* x) {
            __shared__ float row[100];
            row[threadIdx.x] = x[threadIdx.x];
            __syncthreads();
            x[threadIdx.x] = row[99 - threadIdx.x];
        }"#;
    let compiled = nvrtc()
        .compile(&Request::new("reverse.cu", source, real("sm_80")))
        .unwrap();
    let kernel = &compiled.resources[0];
    assert_eq!(
        (kernel.shared, kernel.barriers),
        (400, 1),
        "{}",
        compiled.log
    );
    // Kernel parameters of sm_80 begin at byte 0x160 of constant bank 0; one pointer follows.
    assert_eq!(kernel.constant, 0x160 + 8, "{}", compiled.log);
}

/// 64 values live across a barrier in the 32 registers that 2 x 1024 threads leave to each.
const SPILLS: &str = r#"
extern "C" __global__ void __launch_bounds__(1024, 2) shuffle(float* x) {
    float v[64];
#pragma unroll
    for (int i = 0; i < 64; i++) v[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 64; i++) x[(i * 7 % 64) * 1024 + threadIdx.x] = v[i] * v[(i + 31) % 64];
}
"#;

#[test]
fn spills_are_reported() {
    let tight = nvrtc()
        .compile(&Request::new("shuffle.cu", SPILLS, real("sm_90a")))
        .unwrap();
    let kernel = &tight.resources[0];
    assert_eq!(kernel.registers, 32, "{}", tight.log);
    assert!(
        kernel.spill_stores >= 128 && kernel.spill_loads >= 128 && kernel.stack >= 128,
        "{kernel:?}"
    );

    let roomy = SPILLS.replace("(1024, 2)", "(256, 1)");
    let roomy = nvrtc()
        .compile(&Request::new("shuffle.cu", roomy, real("sm_90a")))
        .unwrap();
    let kernel = &roomy.resources[0];
    assert!(kernel.registers > 64, "{}", roomy.log);
    assert_eq!(
        (kernel.spill_stores, kernel.spill_loads),
        (0, 0),
        "{}",
        roomy.log
    );
}

#[test]
fn functions_that_are_not_inlined_are_reported_as_such() {
    let source = r#"
        __device__ __noinline__ float scan(float* p, int n) {
            float s = 1;
            for (int i = 0; i < n; i++) s += p[i] * s;
            return s;
        }
        extern "C" __global__ void caller(float* x, int n) { x[0] = scan(x, n); }"#;
    let compiled = nvrtc()
        .compile(&Request::new("scan.cu", source, real("sm_80")))
        .unwrap();
    let kinds =
        |kernel: &KernelResources| (kernel.name.clone(), kernel.kernel, kernel.registers > 0);
    let mut found: Vec<_> = compiled.resources.iter().map(kinds).collect();
    found.sort();
    let expected = [
        ("_Z4scanPfi".to_owned(), false, false),
        ("caller".to_owned(), true, true),
    ];
    assert_eq!(found, expected, "{}", compiled.log);
}

#[test]
fn templates_have_lowered_names() {
    let source = "template <int N> __global__ void fill(float* x) { x[threadIdx.x] = N; }";
    let request = Request {
        name_expressions: vec!["fill<3>".to_owned(), "fill<4 * 4>".to_owned()],
        ..Request::new("fill.cu", source, real("sm_80"))
    };
    let compiled = nvrtc().compile(&request).unwrap();
    assert_eq!(compiled.lowered_names["fill<3>"], "_Z4fillILi3EEvPf");
    assert_eq!(compiled.lowered_names["fill<4 * 4>"], "_Z4fillILi16EEvPf");
    assert_eq!(compiled.lowered_names.len(), 2);
    for name in compiled.lowered_names.values() {
        assert!(compiled.kernel(name).is_some(), "{name}");
        assert!(
            compiled.ptx.as_ref().unwrap().contains(name.as_str()),
            "{name}"
        );
    }
    assert_eq!(compiled.kernel("fill"), None);
}

#[test]
fn headers_options_and_line_information_reach_the_compiler() {
    let source = "#include \"unit/scale.cuh\"\nextern \"C\" __global__ void set(float* x) { x[0] = SCALE * FACTOR; }";
    let request = Request {
        headers: vec![(
            "unit/scale.cuh".to_owned(),
            "#define SCALE 3.0f\n".to_owned(),
        )],
        options: vec!["-DFACTOR=7.0f".to_owned()],
        ..Request::new("set.cu", source, Target::Virtual(80))
    };
    let plain = nvrtc().compile(&request).unwrap().ptx.unwrap();
    // 21.0 as the bits of an f32, which is how PTX writes constants or moves them.
    assert!(
        plain.contains("1101529088") || plain.contains("0f41A80000"),
        "{plain}"
    );
    assert!(!plain.contains(".loc"));

    let lined = nvrtc()
        .compile(&Request {
            line_info: true,
            ..request
        })
        .unwrap()
        .ptx
        .unwrap();
    assert!(
        lined.contains(".loc") && lined.contains("set.cu"),
        "{lined}"
    );
}

#[test]
fn the_target_stands_whatever_the_options_say() {
    let request = Request {
        options: vec!["--gpu-architecture=compute_90".to_owned()],
        ..Request::new("axpy.cu", AXPY, Target::Virtual(80))
    };
    assert!(
        nvrtc()
            .compile(&request)
            .unwrap()
            .ptx
            .unwrap()
            .contains(".target sm_80")
    );
}

#[test]
fn errors_show_the_lines_around_them() {
    let source = "// first\nextern \"C\" __global__ void k(float* x) {\n    x[0] = y;\n}\n";
    let message = rejection(&Request::new("broken.cu", source, real("sm_80")));
    assert!(
        message.starts_with(&format!("{} rejected broken.cu for sm_80:", nvrtc_name())),
        "{message}"
    );
    assert!(
        message.contains("broken.cu(3): error: identifier \"y\" is undefined"),
        "{message}"
    );
    let expected = "--> broken.cu:3\n     1 | // first\n     2 | extern \"C\" __global__ void k(float* x) {\n\
                    >    3 |     x[0] = y;\n     4 | }";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn errors_in_a_header_show_the_header() {
    let request = Request {
        headers: vec![(
            "lane.cuh".to_owned(),
            "int lane() { return nothing; }\n".to_owned(),
        )],
        ..Request::new("user.cu", "#include \"lane.cuh\"\n", Target::Virtual(80))
    };
    let message = rejection(&request);
    assert!(
        message.ends_with("--> lane.cuh:1\n>    1 | int lane() { return nothing; }"),
        "{message}"
    );
}

#[test]
fn errors_of_ptxas_show_the_ptx() {
    let source =
        "extern \"C\" __global__ void k(float* x) { asm(\"foo.bar.f32 %0;\" : \"=f\"(x[0])); }";
    let message = rejection(&Request::new("asm.cu", source, real("sm_80")));
    let excerpt = message
        .split("--> PTX:")
        .nth(1)
        .unwrap_or_else(|| panic!("{message}"));
    let marked = excerpt.lines().find(|line| line.starts_with('>')).unwrap();
    assert!(marked.contains("foo.bar.f32"), "{message}");
}

#[test]
fn errors_that_ptxas_keeps_to_itself_are_asked_for() {
    let source = r#"
        extern "C" __global__ void error(float* x) {
            __shared__ float t[100000];
            t[threadIdx.x] = x[0];
            __syncthreads();
            x[threadIdx.x] = t[int(x[1])];
        }"#;
    let message = rejection(&Request::new("large.cu", source, real("sm_80")));
    assert!(message.contains("uses too much shared data"), "{message}");
}

#[test]
fn unknown_names_and_options_are_rejections() {
    let request = Request {
        name_expressions: vec!["absent<3>".to_owned()],
        ..Request::new("axpy.cu", AXPY, Target::Virtual(80))
    };
    assert!(rejection(&request).contains("identifier \"absent\" is undefined"));
    let request = Request {
        options: vec!["--no-such-option".to_owned()],
        ..Request::new("axpy.cu", AXPY, Target::Virtual(80))
    };
    assert!(rejection(&request).contains("unrecognized option --no-such-option"));
}

#[test]
fn unknown_architectures_are_named_with_those_that_exist() {
    for target in [
        real("sm_12"),
        real("hopper"),
        real("sm_90ax"),
        real("80"),
        Target::Virtual(9),
    ] {
        let message = nvrtc()
            .compile(&Request::new("axpy.cu", AXPY, target.clone()))
            .unwrap_err()
            .to_string();
        let expected = format!(
            "{} does not compile for {target}; it knows sm_",
            nvrtc_name()
        );
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_nul_byte_is_an_error_and_not_the_end_of_the_text() {
    let message = nvrtc()
        .compile(&Request::new(
            "nul.cu",
            "int a;\0 int b;",
            Target::Virtual(80),
        ))
        .unwrap_err();
    assert_eq!(
        message.to_string(),
        "the text of the kernel source nul.cu holds a NUL byte; NVRTC takes text only"
    );
}

#[test]
fn threads_compile_at_once() {
    let nvrtc = nvrtc();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let nvrtc = &nvrtc;
            scope.spawn(move || {
                let source = AXPY.replace("axpy", &format!("axpy{thread}"));
                let compiled = nvrtc
                    .compile(&Request::new("axpy.cu", source, real("sm_80")))
                    .unwrap();
                assert_eq!(compiled.resources[0].name, format!("axpy{thread}"));
            });
        }
    });
}

#[test]
fn headers_that_nvrtc_brings_can_be_included() {
    let directory = tempfile::tempdir().unwrap();
    let source = "#include <cuda_fp16.h>\nextern \"C\" __global__ void k(__half* x) { *x = __float2half(1.0f); }";
    let mut request = Request::new("k.cu", source, Target::Virtual(80));
    let Some(options) = nvrtc().headers(directory.path()).unwrap() else {
        assert!(nvrtc().version() < (13, 3), "13.3 and later bring headers");
        return;
    };
    assert!(
        nvrtc().compile(&request).is_err(),
        "without an include path there are none"
    );
    request.options = options;
    assert!(nvrtc().compile(&request).is_ok());
    // A second time they are there.
    assert_eq!(
        nvrtc().headers(directory.path()).unwrap(),
        Some(request.options)
    );
}
