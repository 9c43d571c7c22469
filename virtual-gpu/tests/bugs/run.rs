//! Runs the corpus: the first finding of a planted defect has its kind and names a marked line, a clean kernel has no
//! finding, whatever the seed.

use stheno_jit::{FindOptions, Nvrtc, Request, Target};
use virtual_gpu::case::{Arg, Case, PackedArg, contents, pack};
use virtual_gpu::{Checks, Device, LaunchConfig, LaunchOptions, LaunchReport, Module, Profile};

use super::{Expected, Kernel, corpus};

const SEEDS: [u64; 3] = [0, 1, 0x5eed];

/// A copy that another thread has waited for, or not yet: which of the two a reader meets depends on the schedule.
const EITHER_KIND: [(&str, &str); 1] = [("race_shared_wait_then_no_barrier", "pending_async_read")];

#[test]
fn checks_find_what_is_planted_and_nothing_else() {
    let nvrtc = Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut failures = Vec::new();
    for kernel in corpus() {
        let module = match Module::from_ptx(&compile(&nvrtc, &kernel)) {
            Ok(module) => module,
            Err(error) => {
                failures.push(format!("{}: {error}", kernel.name));
                continue;
            }
        };
        for seed in SEEDS {
            if let Err(what) = judge(&kernel, &launch(&module, &kernel.case, seed)) {
                failures.push(format!("{} (seed {seed}): {what}", kernel.name));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} verdicts are wrong:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
#[ignore = "fifty launches of each kernel"]
fn clean_kernels_are_clean_in_any_order() {
    let nvrtc = Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let clean = |kernel: &Kernel| matches!(kernel.expected, Expected::Clean);
    let mut failures = Vec::new();
    for kernel in corpus().into_iter().filter(clean) {
        let module = Module::from_ptx(&compile(&nvrtc, &kernel)).unwrap();
        for seed in 0..50 {
            if let Err(what) = judge(&kernel, &launch(&module, &kernel.case, seed)) {
                failures.push(format!("{} (seed {seed}): {what}", kernel.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn compile(nvrtc: &Nvrtc, kernel: &Kernel) -> String {
    // With a letter NVRTC knows the architecture by its real name.
    let number = kernel.case.arch.trim_start_matches("compute_");
    let target = match number.parse() {
        Ok(number) => Target::Virtual(number),
        Err(_) => Target::Real(format!("sm_{number}")),
    };
    let name = format!("{}.cu", kernel.name);
    let mut request = Request::new(name, kernel.source.clone(), target);
    request.line_info = true;
    let compiled = nvrtc
        .compile(&request)
        .unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    compiled.ptx.unwrap()
}

fn launch(module: &Module, case: &Case, seed: u64) -> LaunchReport {
    let mut device = Device::new(Profile::h100());
    // Tensor maps may come before the buffers that they are of.
    let mut addresses = vec![0; case.args.len()];
    for (index, buffer) in case.buffers() {
        let pointer = device.alloc(buffer.bytes()).unwrap();
        if let Some(bytes) = contents(index, buffer) {
            device.write(pointer, &bytes).unwrap();
        }
        addresses[index] = pointer.0;
    }
    let args = case.args.iter().enumerate();
    let params: Vec<PackedArg> = args
        .map(|(index, arg)| match arg {
            Arg::Scalar(scalar) => PackedArg::from(scalar),
            Arg::Buffer(_) => PackedArg::pointer(addresses[index]),
            Arg::TensorMap(map) => PackedArg::tensor_map(map.bytes(addresses[map.of()])),
        })
        .collect();
    let config = LaunchConfig {
        grid: case.grid,
        block: case.block,
        dynamic_shared: case.dynamic_shared,
        cooperative: case.cooperative,
        cluster: case.cluster,
    };
    let options = LaunchOptions {
        checks: Checks::All,
        seed,
        ..LaunchOptions::default()
    };
    device
        .launch(module, &case.kernel, &config, &pack(&params), &options)
        .unwrap()
}

fn judge(kernel: &Kernel, report: &LaunchReport) -> Result<(), String> {
    match (&kernel.expected, report.findings.first()) {
        (Expected::Clean, None) if report.completed => Ok(()),
        (Expected::Clean, None) => Err("did not complete".into()),
        (Expected::Clean, Some(found)) => Err(format!("false alarm: {found}")),
        (Expected::Defect { kind, .. }, None) => Err(format!("{kind} was not found")),
        (Expected::Defect { kind, lines }, Some(found)) => {
            let also = EITHER_KIND
                .iter()
                .any(|&(name, also)| name == kernel.name && also == found.kind.name());
            if found.kind.name() != *kind && !also {
                return Err(format!("wanted {kind}, got: {found}"));
            }
            // A grid that is refused has executed no line.
            let no_line = *kind == "grid_not_resident" && found.source.is_none();
            if no_line
                || found
                    .source
                    .as_ref()
                    .is_some_and(|source| lines.contains(&source.line))
            {
                return Ok(());
            }
            Err(format!("wanted one of the lines {lines:?}, got: {found}"))
        }
    }
}

/// It takes two launches, or a host that frees too early, so that no case file can say it.
#[test]
fn memory_that_the_host_has_freed_is_not_used() {
    let source = "extern \"C\" __global__ void add(const int* x, int* y) {\n    y[threadIdx.x] += x[threadIdx.x];\n}\n";
    let nvrtc = Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut request = Request::new("add.cu", source, Target::Virtual(80));
    request.line_info = true;
    let module = Module::from_ptx(&nvrtc.compile(&request).unwrap().ptx.unwrap()).unwrap();
    let mut device = Device::new(Profile::h100());
    let (x, y) = (device.alloc(128).unwrap(), device.alloc(128).unwrap());
    device.write(x, &[1; 128]).unwrap();
    device.write(y, &[2; 128]).unwrap();
    let params = pack(&[PackedArg::pointer(x.0), PackedArg::pointer(y.0)]);
    let launch = |device: &mut Device| {
        let options = LaunchOptions::default();
        device
            .launch(
                &module,
                "add",
                &LaunchConfig::linear(1, 32),
                &params,
                &options,
            )
            .unwrap()
    };
    assert!(launch(&mut device).findings.is_empty());
    device.free(x).unwrap();
    let report = launch(&mut device);
    let found = report
        .findings
        .first()
        .expect("a read of freed memory is a finding");
    assert_eq!(found.kind.name(), "use_after_free", "{found}");
    assert_eq!(
        found.source.as_ref().map(|source| source.line),
        Some(2),
        "{found}"
    );
    assert!(!report.completed);
}
