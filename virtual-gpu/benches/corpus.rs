//! Warp instructions per second of every kernel of the corpus, one thread: `cargo bench -p virtual-gpu --bench corpus`.
//! A row has the fastest of several runs for each mode, since whatever else the machine does only makes runs slower; the
//! last row is the median of the kernels. After `--`, words select kernels by parts of their names, `--runs N` sets the
//! number of runs, and `--mode none`, `bounds` or `all` measures one mode. `cargo test` measures nothing: it runs one kernel, once.

use std::path::{Path, PathBuf};
use std::time::Instant;

use stheno_jit::{FindOptions, Nvrtc, Request, Target};
use virtual_gpu::case::{Arg, Case, PackedArg, contents, pack};
use virtual_gpu::{Checks, Device, LaunchConfig, LaunchOptions, MmaMode, Module, Profile};

/// What is measured: name, checks, counters.
const MODES: [(&str, Checks, bool); 3] = [
    ("none", Checks::None, false),
    ("bounds", Checks::Bounds, false),
    ("all", Checks::All, true),
];

/// Seconds of the fastest of `runs` runs, and the warp instructions of one.
fn measure(module: &Module, case: &Case, mode: (&str, Checks, bool), runs: u32) -> (f64, u64) {
    let (_, checks, counters) = mode;
    let options = LaunchOptions {
        checks,
        counters,
        mma: MmaMode::Fast,
        ..LaunchOptions::default()
    };
    let config = LaunchConfig {
        grid: case.grid,
        block: case.block,
        dynamic_shared: case.dynamic_shared,
        cooperative: case.cooperative,
        cluster: case.cluster,
    };
    let initial: Vec<Option<Vec<u8>>> = case
        .args
        .iter()
        .enumerate()
        .map(|(index, arg)| match arg {
            Arg::Buffer(buffer) => contents(index, buffer),
            Arg::Scalar(_) | Arg::TensorMap(_) => None,
        })
        .collect();
    let (mut best, mut instructions) = (f64::INFINITY, 0);
    for _ in 0..runs {
        let mut device = Device::new(Profile::h100());
        let mut addresses = vec![0; case.args.len()];
        for (index, buffer) in case.buffers() {
            let pointer = device.alloc(buffer.bytes()).unwrap();
            if let Some(contents) = &initial[index] {
                device.write(pointer, contents).unwrap();
            }
            addresses[index] = pointer.0;
        }
        let args = case.args.iter().enumerate();
        let packed: Vec<PackedArg> = args
            .map(|(index, arg)| match arg {
                Arg::Buffer(_) => PackedArg::pointer(addresses[index]),
                Arg::Scalar(scalar) => scalar.into(),
                Arg::TensorMap(map) => PackedArg::tensor_map(map.bytes(addresses[map.of()])),
            })
            .collect();
        let start = Instant::now();
        let report = device
            .launch(module, &case.kernel, &config, &pack(&packed), &options)
            .unwrap();
        best = best.min(start.elapsed().as_secs_f64());
        assert!(report.completed, "{}: {:?}", case.kernel, report.findings);
        instructions = report.counters.warp_instructions;
    }
    (best, instructions)
}

fn module(nvrtc: &Nvrtc, path: &Path) -> std::sync::Arc<Module> {
    let source = std::fs::read_to_string(path).unwrap();
    let mut request = Request::new(path.display().to_string(), source, Target::Virtual(80));
    if path.ends_with("bulk_ring.cu") || path.ends_with("specialised_gemm.cu") {
        request.target = Target::Virtual(90);
    }
    request.options = vec!["--std=c++17".into()];
    Module::from_ptx(&nvrtc.compile(&request).unwrap().ptx.unwrap()).unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runs = arguments.iter().position(|argument| argument == "--runs");
    // What `cargo bench` says to every benchmark.
    let measures = arguments.iter().any(|argument| argument == "--bench");
    let runs = runs.map_or(if measures { 7 } else { 1 }, |at| {
        arguments[at + 1].parse().unwrap()
    });
    let mode = arguments.iter().position(|argument| argument == "--mode");
    let mode = mode.map(|at| arguments[at + 1].as_str());
    let modes: Vec<_> = MODES
        .into_iter()
        .filter(|(name, ..)| mode.is_none_or(|mode| mode == *name))
        .collect();
    let words: Vec<&String> = arguments
        .iter()
        .filter(|word| !word.starts_with("--") && word.parse::<u32>().is_err())
        .filter(|word| !MODES.iter().any(|(name, ..)| name == word))
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let nvrtc = Nvrtc::find(&FindOptions::for_project(root)).unwrap();
    let folder = root.join("tests/corpus/kernels");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    cases.sort();
    cases.insert(0, root.join("benches/alu_mix.json"));
    if !measures {
        cases.truncate(1);
    }
    println!(
        "{:22} {:>12} {:>8} {:>8} {:>8}",
        "", "instructions", "none", "bounds", "all"
    );
    let mut speeds = vec![Vec::new(); modes.len()];
    for path in cases {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if !words.is_empty() && !words.iter().any(|word| name.contains(*word)) {
            continue;
        }
        let case = Case::from_json(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        let module = module(&nvrtc, &path.with_extension("cu"));
        let instructions = measure(&module, &case, ("", Checks::None, true), 1).1;
        print!("{name:22} {instructions:>12}");
        for (mode, speeds) in modes.iter().zip(&mut speeds) {
            let speed = instructions as f64 / measure(&module, &case, *mode, runs).0 / 1e6;
            print!(" {speed:>8.1}");
            if name != "alu_mix" {
                speeds.push(speed);
            }
        }
        println!();
    }
    print!("{:22} {:>12}", "median", "");
    for mut speeds in speeds {
        speeds.sort_by(f64::total_cmp);
        if !speeds.is_empty() {
            print!(" {:>8.1}", speeds[speeds.len() / 2]);
        }
    }
    println!();
}
