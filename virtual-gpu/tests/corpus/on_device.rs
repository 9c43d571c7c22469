//! Runs the corpus on the device that `STHENO_TEST_DEVICE` names, against the references.

use std::fmt::Write as _;

use crate::case::{Case, Size};
use crate::cuda::{Cuda, CudaShape};
use crate::run::Compiler;
use crate::{cuda, table};

/// Contents of a case's buffers after a launch, or why there was none.
fn run(cuda: &Cuda, compiler: &Compiler, case: &Case) -> Result<Vec<Vec<u8>>, String> {
    let module = cuda.load(&compiler.compile(case, cuda.target()));
    let buffers = case.buffers().into_iter().map(|(bytes, contents)| {
        let at = cuda.alloc(bytes);
        contents
            .iter()
            .for_each(|contents| cuda.write(at, contents));
        (at, bytes)
    });
    let buffers: Vec<(u64, usize)> = buffers.collect();
    let addresses: Vec<u64> = buffers.iter().map(|(at, _)| *at).collect();
    let arguments = case.arguments(&addresses);
    let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
    let shape = CudaShape {
        grid: case.grid,
        block: case.block,
        shared: case.dynamic_shared,
        cooperative: case.cooperative,
    };
    let launched = cuda.launch(module, case.kernel, shape, &arguments);
    let outputs = buffers.into_iter().map(|(at, bytes)| {
        let mut contents = vec![0; bytes];
        if launched.is_ok() {
            cuda.read(at, &mut contents);
        }
        cuda.free(at);
        contents
    });
    let outputs = outputs.collect();
    launched.map(|()| outputs)
}

#[test]
#[ignore = "needs a device: STHENO_TEST_DEVICE=cuda:0, and scripts/gpu-suite.sh runs it"]
fn every_kernel_gives_the_reference_result_on_a_device() {
    let cuda = cuda::named().expect("STHENO_TEST_DEVICE names no device");
    let compiler = Compiler::new();
    let (mut ran, mut failures) = (0, String::new());
    for size in Size::ALL {
        for case in table(size) {
            if !case.target.runs_on(cuda.capability) {
                println!("{} is not for this device", case.kernel);
                continue;
            }
            let outputs = run(&cuda, &compiler, &case);
            if let Err(what) = outputs.and_then(|outputs| case.check(&outputs)) {
                writeln!(failures, "{size:?}: {what}").unwrap();
            }
            ran += 1;
        }
    }
    println!("{ran} launches");
    assert!(ran > 0 && failures.is_empty(), "{failures}");
}
