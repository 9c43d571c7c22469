//! Test kernels: compiled with the headers and some sizes, run on the virtual GPU with all checks, and put through ptxas.

// Each test crate uses a part of it.
#![allow(dead_code)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use stheno_jit::{Cache, Compiled, FindOptions, Nvrtc, Request, Target};
use stheno_kernels::HEADERS;
use virtual_gpu::{
    Device, DevicePointer, LaunchConfig, LaunchOptions, LaunchReport, Module, Profile,
};

/// What every program must compile for.
pub const ARCHITECTURES: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"];

/// A CUDA source with the sizes that its `sizes.cuh` defines.
#[derive(Clone)]
pub struct Source {
    pub name: &'static str,
    pub text: String,
    pub sizes: Vec<(&'static str, u32)>,
}

impl Source {
    /// Compiles for a target, out of the cache if it was compiled before.
    pub fn compile(&self, target: Target) -> Compiled {
        let nvrtc = Nvrtc::find(&FindOptions::for_project(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/.."
        )));
        let nvrtc = nvrtc.unwrap_or_else(|error| panic!("{error}"));
        let cache = Cache::open(Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels")).unwrap();
        let mut sizes = String::from("#pragma once\n");
        for (name, value) in &self.sizes {
            writeln!(sizes, "#define {name} {value}u").unwrap();
        }
        let mut request = Request::new(self.name, self.text.as_str(), target);
        let headers = HEADERS.iter().map(|(n, t)| (n.to_string(), t.to_string()));
        request.headers = headers.chain([("sizes.cuh".to_owned(), sizes)]).collect();
        request.line_info = true;
        request.options = vec!["--std=c++17".into()];
        let compiled = cache.compile(&nvrtc, &request);
        compiled.unwrap_or_else(|error| panic!("{error}")).0
    }

    /// The module for the virtual GPU: `number` is 80, 90...
    pub fn module(&self, number: u32) -> Arc<Module> {
        let ptx = self.compile(Target::Virtual(number)).ptx.unwrap();
        Module::from_ptx(&ptx).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// (kernel, registers) for an architecture, after checking that nothing spills and everything is inlined.
    pub fn registers(&self, architecture: &str) -> Vec<(String, u32)> {
        let compiled = self.compile(Target::Real(architecture.to_owned()));
        let check = |function: &stheno_jit::KernelResources| {
            let spills = (function.spill_stores, function.spill_loads);
            assert_eq!(spills, (0, 0), "{} for {architecture}", function.name);
            (function.name.clone(), function.registers)
        };
        compiled.resources.iter().map(check).collect()
    }
}

/// Blocks, threads of each, and bytes of their dynamic shared memory.
#[derive(Clone, Copy)]
pub struct Shape {
    pub blocks: u32,
    pub threads: u32,
    pub shared: u32,
}

/// Device memory of a test.
pub struct Gpu {
    pub device: Device,
}

impl Gpu {
    /// An H100 of that many SMs.
    pub fn new(sm_count: u32) -> Gpu {
        Gpu {
            device: Device::new(Profile::h100().with_multiprocessors(sm_count)),
        }
    }

    /// Memory with that content.
    pub fn upload(&mut self, bytes: &[u8]) -> DevicePointer {
        let pointer = self.device.alloc(bytes.len().max(16)).unwrap();
        self.device.write(pointer, bytes).unwrap();
        pointer
    }

    pub fn download(&self, pointer: DevicePointer, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        self.device.read(pointer, &mut content).unwrap();
        content
    }

    /// Runs a kernel cooperatively with one structure of bytes as its parameter; panics at any finding.
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &str,
        shape: Shape,
        parameter: &[u8],
        options: &LaunchOptions,
    ) -> LaunchReport {
        let config = LaunchConfig {
            dynamic_shared: shape.shared,
            cooperative: true,
            ..LaunchConfig::linear(shape.blocks, shape.threads)
        };
        let report = self
            .device
            .launch(module, kernel, &config, parameter, options);
        let report = report.unwrap_or_else(|error| panic!("{kernel}: {error}"));
        if let Some(finding) = report.findings.first() {
            panic!("{kernel}: {finding}");
        }
        assert!(report.completed, "{kernel} did not come to its end");
        report
    }
}
