//! The sources of the kernels, and their compilation.

use anyhow::{Context, Result};
use stheno_jit::{Compiled, Nvrtc, Request, Target};

/// Architectures for which `--write-cubins` compiles.
pub const ARCHITECTURES: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"];

/// A file of kernels, compiled by itself.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its name, without `.cu`.
    pub name: &'static str,
    source: &'static str,
}

macro_rules! source {
    ($name:literal) => {
        include_str!(concat!("../kernels/", $name))
    };
}

/// Every module.
pub const MODULES: [Module; 8] = [
    Module {
        name: "stream",
        source: source!("stream.cu"),
    },
    Module {
        name: "ring",
        source: source!("ring.cu"),
    },
    Module {
        name: "edge",
        source: source!("edge.cu"),
    },
    Module {
        name: "broadcast",
        source: source!("broadcast.cu"),
    },
    Module {
        name: "mma",
        source: source!("mma.cu"),
    },
    Module {
        name: "drain",
        source: source!("drain.cu"),
    },
    Module {
        name: "host",
        source: source!("host.cu"),
    },
    Module {
        name: "release",
        source: source!("release.cu"),
    },
];

/// Headers of the probe's own.
const HEADERS: [(&str, &str); 5] = [
    ("probe.cuh", source!("probe.cuh")),
    ("counters.cuh", source!("counters.cuh")),
    ("hinted.cuh", source!("hinted.cuh")),
    ("ring.cuh", source!("ring.cuh")),
    ("edge.cuh", source!("edge.cuh")),
];

/// What it takes of the device program's, so that it measures the same instructions.
const SHARED_HEADERS: [&str; 5] = [
    "copies.cuh",
    "mbarrier.cuh",
    "mma.cuh",
    "prelude.cuh",
    "sync.cuh",
];

fn headers() -> Vec<(String, String)> {
    let shared = stheno_kernels::HEADERS.iter();
    let shared = shared.filter(|(name, _)| SHARED_HEADERS.contains(name));
    let all = shared.chain(&HEADERS);
    all.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

/// The module of this name.
pub fn module(name: &str) -> Option<Module> {
    MODULES.into_iter().find(|module| module.name == name)
}

/// Compiles a module. No header outside of these is read.
///
/// # Errors
/// NVRTC does not know the target, or failed.
pub fn compile(nvrtc: &Nvrtc, module: Module, target: Target) -> Result<Compiled> {
    let request = Request {
        headers: headers(),
        options: vec!["--std=c++17".to_owned()],
        line_info: matches!(target, Target::Virtual(_)),
        ..Request::new(format!("{}.cu", module.name), module.source, target)
    };
    nvrtc
        .compile(&request)
        .with_context(|| format!("cannot compile the kernels of {}", module.name))
}
