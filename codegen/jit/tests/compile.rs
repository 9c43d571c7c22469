//! Compiles with the NVRTC of the project: PTX, cubins, reports, names and errors.

use stheno_jit::{FindOptions, Nvrtc, Request, Target};

/// The NVRTC under test.
fn nvrtc() -> Nvrtc {
    Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|error| panic!("run scripts/fetch-nvrtc.sh first: {error}"))
}

const AXPY: &str = r#"
extern "C" __global__ void axpy(float a, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}
"#;

#[test]
fn a_virtual_target_gives_ptx_and_no_cubin() {
    let compiled = nvrtc()
        .compile(&Request::new("axpy.cu", AXPY, Target::Virtual(80)))
        .unwrap();
    let ptx = compiled.ptx.unwrap();
    assert!(ptx.contains(".target sm_80"), "{ptx}");
    assert!(ptx.contains(".visible .entry axpy("), "{ptx}");
    assert_eq!(compiled.cubin, None);
    assert!(compiled.resources.is_empty());
}
