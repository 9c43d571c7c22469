//! Warp instructions per second, one thread: `cargo bench -p virtual-gpu`. An element is a warp instruction, so that
//! Criterion's throughput is what it says.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stheno_jit::{FindOptions, Nvrtc, Request, Target};
use virtual_gpu::{Arch, Checks, Device, LaunchConfig, LaunchOptions, MmaMode, Module, Profile};

/// A kernel with its launch: parameters are made anew for each device.
struct Workload {
    name: &'static str,
    kernel: &'static str,
    module: Arc<Module>,
    config: LaunchConfig,
    /// Bytes of each buffer, in order of the parameters.
    buffers: &'static [usize],
    /// All bytes of the buffers.
    fill: u8,
    /// What follows the buffers.
    scalars: &'static [u32],
}

fn module(path: &str) -> Arc<Module> {
    let options = FindOptions::for_project(env!("CARGO_MANIFEST_DIR"));
    let nvrtc = Nvrtc::find(&options).unwrap_or_else(|error| panic!("{error}"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let source = std::fs::read_to_string(&path).unwrap();
    let mut request = Request::new(path.display().to_string(), source, Target::Virtual(80));
    request.options = vec!["--std=c++17".into()];
    Module::from_ptx(&nvrtc.compile(&request).unwrap().ptx.unwrap()).unwrap()
}

fn workloads() -> Vec<Workload> {
    let gemm = LaunchConfig {
        dynamic_shared: 38_912,
        grid: [2, 2, 1],
        ..LaunchConfig::linear(1, 128)
    };
    vec![
        Workload {
            name: "alu_mix",
            kernel: "alu_mix",
            module: module("benches/alu_mix.cu"),
            config: LaunchConfig::linear(4, 128),
            buffers: &[4 * 512],
            fill: 0x3f,
            scalars: &[2000, 7],
        },
        Workload {
            name: "gemm_bf16",
            kernel: "gemm_bf16",
            module: module("tests/corpus/kernels/gemm_bf16.cu"),
            config: gemm,
            buffers: &[2 * 128 * 512, 2 * 512 * 128, 2 * 128 * 128],
            fill: 0x3f,
            scalars: &[128, 128, 512],
        },
        Workload {
            name: "gemm_bf16_of_integers",
            kernel: "gemm_bf16",
            module: module("tests/corpus/kernels/gemm_bf16.cu"),
            config: gemm,
            buffers: &[2 * 128 * 512, 2 * 512 * 128, 2 * 128 * 128],
            // 3 in bf16.
            fill: 0x40,
            scalars: &[128, 128, 512],
        },
    ]
}

fn run(workload: &Workload, options: &LaunchOptions) -> u64 {
    let mut device = Device::new(Profile::h100());
    let mut params = Vec::new();
    for bytes in workload.buffers {
        let pointer = device.alloc(*bytes).unwrap();
        device.write(pointer, &vec![workload.fill; *bytes]).unwrap();
        params.extend(pointer.0.to_le_bytes());
    }
    params.extend(
        workload
            .scalars
            .iter()
            .flat_map(|value| value.to_le_bytes()),
    );
    let report = device
        .launch(
            &workload.module,
            workload.kernel,
            &workload.config,
            &params,
            options,
        )
        .unwrap();
    assert!(report.completed, "{:?}", report.findings);
    report.counters.warp_instructions
}

fn speed(criterion: &mut Criterion) {
    let exact = MmaMode::Exact(Arch::Hopper);
    let modes = [
        ("no checks", Checks::None, false, MmaMode::Fast),
        ("bounds", Checks::Bounds, false, MmaMode::Fast),
        ("bounds, exact mma", Checks::Bounds, false, exact),
        ("all checks and counters", Checks::All, true, MmaMode::Fast),
    ];
    for workload in workloads() {
        let mut group = criterion.benchmark_group(workload.name);
        let counting = LaunchOptions {
            counters: true,
            checks: Checks::None,
            ..LaunchOptions::default()
        };
        group.throughput(Throughput::Elements(run(&workload, &counting)));
        group.sample_size(20);
        for (name, checks, counters, mma) in modes {
            let options = LaunchOptions {
                checks,
                counters,
                mma,
                ..LaunchOptions::default()
            };
            group.bench_function(name, |bencher| {
                bencher.iter(|| black_box(run(&workload, &options)))
            });
        }
        group.finish();
    }
}

criterion_group!(benches, speed);
criterion_main!(benches);
