//! Test kernels: compiled with the headers and some sizes, run on the virtual GPU with all checks, and put through ptxas.
//!
//! With `STHENO_TEST_DEVICE=cuda:0` every launch runs on that device too, in memory at the same addresses. What tests see is
//! then the device's, and its bits are compared with those of the virtual GPU: no kernel here has an approximate instruction
//! or leaves the rounding of a product or a sum to the compiler, so that they are defined.

// Each test crate uses a part of it.
#![allow(dead_code)]

#[path = "../../../virtual-gpu/tests/cuda/mod.rs"]
mod cuda;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use cuda::{Cuda, CudaModule, CudaShape};
use stheno_jit::{Cache, Compiled, FindOptions, Nvrtc, Request, Target};
use stheno_kernels::HEADERS;
use virtual_gpu::{
    Arch, Device, DevicePointer, LaunchConfig, LaunchOptions, LaunchReport, MmaMode, Module,
    Profile,
};

/// What leaves bits to the hardware, or to the compiler, which may fuse a product and a sum that have no rounding mode.
const LOOSE: [&str; 4] = [".approx", "mul.f32", "add.f32", "sub.f32"];

/// Environment: a file that gets a line of JSON for the memory of each test that ran on a device. Without it a bit that differs
/// is a panic.
const RECORD: &str = "STHENO_TEST_RECORD";
/// Environment: where compiled kernels are kept, instead of in the build directory.
const CACHE: &str = "STHENO_TEST_CACHE";

/// What every program must compile for.
pub const ARCHITECTURES: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"];

/// Sizes of programs that choose and decide, and multiply nothing.
pub const WITHOUT_PRODUCTS: [(&str, u32); 9] = [
    ("ROW_CAPACITY", 64),
    ("STAGES", 2),
    ("STAGE_BYTES", 128),
    ("TILE_GROUP", 8),
    ("SCRATCH_BYTES", 16384),
    ("PARTIAL_BYTES", 16384),
    ("RESIDUAL_BYTES", 128),
    ("LOOKS_UP", 1),
    ("EPILOGUES", 0),
];

/// Shared memory of a block whose sizes are [`WITHOUT_PRODUCTS`]: the regions, and `Shared`.
pub const SHARED_WITHOUT_PRODUCTS: u32 = 2 * 128 + 16384 + 16384 + 128 + 4096;

/// A CUDA source with the sizes that its `sizes.cuh` defines.
#[derive(Clone)]
pub struct Source {
    pub name: &'static str,
    /// What of it is compiled, for reports: a format, a shape.
    pub variant: String,
    pub text: String,
    pub sizes: Vec<(&'static str, u32)>,
}

impl Source {
    /// Compiles for a target, out of the cache if it was compiled before.
    pub fn compile(&self, target: Target) -> Compiled {
        let nvrtc = Nvrtc::find(&FindOptions {
            max_major: cuda::named().and_then(|cuda| cuda.nvrtc_limit()),
            ..FindOptions::for_project(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        });
        let nvrtc = nvrtc.unwrap_or_else(|error| panic!("{error}"));
        let folder = std::env::var_os(CACHE).map(PathBuf::from);
        // Cargo names the folder to tests, not to a crate that has some of its own.
        let own = option_env!("CARGO_TARGET_TMPDIR").map(PathBuf::from);
        let folder = folder.or(own).unwrap_or_else(std::env::temp_dir);
        let cache = Cache::open(folder.join("kernels")).unwrap();
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

    /// The kernels for the virtual GPU: `number` is 80, 90... With a device, for what it is instead, and for itself.
    pub fn module(&self, number: u32) -> Arc<Kernels> {
        let cuda = cuda::named();
        let target = cuda.as_ref().map(|cuda| cuda.target());
        let compiled = self.compile(target.unwrap_or(Target::Virtual(number)));
        let ptx = compiled.ptx.as_ref().unwrap();
        let loose = LOOSE.iter().find(|name| ptx.contains(**name));
        assert_eq!(loose, None, "{}: bits are not defined", self.name);
        let module = Module::from_ptx(ptx);
        Arc::new(Kernels {
            name: format!("{} {}", self.name, self.variant),
            module: module.unwrap_or_else(|error| panic!("{}: {error}", self.name)),
            cuda: cuda.map(|cuda| cuda.load(&compiled)),
        })
    }

    /// The kernels for the virtual GPU alone, where the compiler may fuse products and sums: their bits are not compared with a
    /// device's.
    pub fn loose_module(&self, number: u32) -> Arc<Kernels> {
        let compiled = self.compile(Target::Virtual(number));
        let module = Module::from_ptx(compiled.ptx.as_ref().unwrap());
        Arc::new(Kernels {
            name: format!("{} {}", self.name, self.variant),
            module: module.unwrap_or_else(|error| panic!("{}: {error}", self.name)),
            cuda: None,
        })
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

/// Compiled kernels.
pub struct Kernels {
    name: String,
    module: Arc<Module>,
    cuda: Option<CudaModule>,
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
    device: Device,
    /// The device beside the virtual one, whose memory has the same addresses.
    cuda: Option<Arc<Cuda>>,
    allocations: Vec<u64>,
    bits: Bits,
}

/// What was compared between the two.
#[derive(Default)]
struct Bits {
    kernels: String,
    bytes: usize,
    differing: usize,
}

impl Gpu {
    /// An H100 of that many SMs.
    pub fn new(sm_count: u32) -> Gpu {
        Gpu {
            device: Device::new(Profile::h100().with_multiprocessors(sm_count)),
            cuda: cuda::named(),
            allocations: Vec::new(),
            bits: Bits::default(),
        }
    }

    /// Memory that nobody has written to.
    pub fn alloc(&mut self, bytes: usize) -> DevicePointer {
        let Some(cuda) = &self.cuda else {
            return self.device.alloc(bytes).unwrap();
        };
        let pointer = DevicePointer(cuda.alloc(bytes));
        self.device.alloc_at(pointer, bytes, "memory").unwrap();
        self.allocations.push(pointer.0);
        pointer
    }

    pub fn write(&mut self, pointer: DevicePointer, bytes: &[u8]) {
        self.device.write(pointer, bytes).unwrap();
        if let Some(cuda) = &self.cuda {
            cuda.write(pointer.0, bytes);
        }
    }

    /// Memory with that content.
    pub fn upload(&mut self, bytes: &[u8]) -> DevicePointer {
        let pointer = self.alloc(bytes.len().max(16));
        self.write(pointer, bytes);
        pointer
    }

    pub fn download(&mut self, pointer: DevicePointer, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        self.device.read(pointer, &mut content).unwrap();
        let Some(cuda) = &self.cuda else {
            return content;
        };
        let mut real = vec![0; bytes];
        cuda.read(pointer.0, &mut real);
        let differing = content.iter().zip(&real).filter(|(a, b)| a != b).count();
        let kernels = &self.bits.kernels;
        assert!(
            differing == 0 || std::env::var_os(RECORD).is_some(),
            "{kernels}: {differing} of {bytes} bytes differ from the virtual GPU's"
        );
        self.bits.bytes += bytes;
        self.bits.differing += differing;
        real
    }

    /// Runs a kernel cooperatively with one structure of bytes as its parameter; panics at any finding.
    pub fn launch(
        &mut self,
        kernels: &Kernels,
        kernel: &str,
        shape: Shape,
        parameter: &[u8],
        options: &LaunchOptions,
    ) -> LaunchReport {
        let config = LaunchConfig {
            dynamic_shared: shape.shared,
            cooperative: true,
            cluster: None,
            ..LaunchConfig::linear(shape.blocks, shape.threads)
        };
        let mut options = *options;
        if let Some(cuda) = &self.cuda {
            options.mma = MmaMode::Exact(tensor_cores(cuda.capability));
        }
        let report = self
            .device
            .launch(&kernels.module, kernel, &config, parameter, &options);
        let report = report.unwrap_or_else(|error| panic!("{kernel}: {error}"));
        if let Some(finding) = report.findings.first() {
            panic!("{kernel}: {finding}");
        }
        assert!(report.completed, "{kernel} did not come to its end");
        if let (Some(cuda), Some(module)) = (&self.cuda, kernels.cuda) {
            self.bits.kernels.clone_from(&kernels.name);
            let shape = CudaShape {
                grid: config.grid,
                block: config.block,
                shared: config.dynamic_shared,
                cooperative: true,
            };
            let launched = cuda.launch(module, kernel, shape, &[parameter]);
            launched.unwrap_or_else(|error| panic!("{error}"));
        }
        report
    }
}

/// Whose sums products have.
fn tensor_cores(capability: (u32, u32)) -> Arch {
    match capability {
        (8, 9) => Arch::Ada,
        (8, _) => Arch::Ampere,
        (9, _) => Arch::Hopper,
        _ => Arch::Blackwell,
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let Some(cuda) = &self.cuda else {
            return;
        };
        self.allocations.iter().for_each(|at| cuda.free(*at));
        if self.bits.bytes == 0 {
            return;
        }
        let Some(path) = std::env::var_os(RECORD) else {
            return;
        };
        // A test's thread has the test's name.
        let thread = std::thread::current();
        let line = serde_json::json!({
            "test": thread.name(),
            "kernels": self.bits.kernels,
            "bytes": self.bits.bytes,
            "differing": self.bits.differing,
        });
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        // One write, so that lines of several tests do not mix.
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            eprintln!("{RECORD}: {error}");
        }
    }
}
