//! Every kernel on the virtual GPU with all checks, every architecture through ptxas, and the program against the virtual
//! driver. Needs NVRTC (scripts/fetch-nvrtc.sh).

mod checked;
mod compile;
mod kernels;
mod program;

use stheno_jit::Nvrtc;

fn nvrtc() -> Nvrtc {
    gpu_probe::find_nvrtc(None, None).unwrap_or_else(|error| panic!("{error}"))
}
