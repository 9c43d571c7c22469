//! The crate with a real NVRTC (scripts/fetch-nvrtc.sh) and with libraries that stand in for other versions.

mod cache;
mod compile;
mod fake;
mod find;

use stheno_jit::{FindOptions, Nvrtc};

/// The NVRTC of the project.
fn nvrtc() -> Nvrtc {
    Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// How messages name that NVRTC.
fn nvrtc_name() -> String {
    let (major, minor) = nvrtc().version();
    format!("NVRTC {major}.{minor}")
}

/// y += a x over n elements.
const AXPY: &str = r#"
extern "C" __global__ void axpy(float a, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}
"#;
