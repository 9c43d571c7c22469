use anyhow::{Result, anyhow};
use std::thread::JoinHandle;
use stheno::device::{DeviceExecutor, find_nvrtc, program_request};
use stheno_codegen::jit::{Cache, KernelResources, Target};
use stheno_codegen::program::KERNEL;

/// What the compiler says of a program for an H100, found out in a thread of its own.
pub struct Report(JoinHandle<Result<KernelResources>>);

/// Whose machine code is reported.
pub const ARCHITECTURE: &str = "sm_90a";

impl Report {
    pub fn begin(executor: &DeviceExecutor, cache: Option<Cache>) -> Report {
        let source = executor.program().source.clone();
        Report(std::thread::spawn(move || {
            let nvrtc = find_nvrtc(None)?;
            let target = Target::Real(ARCHITECTURE.to_owned());
            let request = program_request(&source, target)?;
            let compiled = match cache {
                Some(cache) => cache.compile(&nvrtc, &request)?.0,
                None => nvrtc.compile(&request)?,
            };
            let kernel = compiled.kernel(KERNEL).cloned();
            kernel.ok_or_else(|| anyhow!("the compiler reports nothing of `{KERNEL}`"))
        }))
    }

    pub fn wait(self) -> Result<KernelResources> {
        let report = self.0.join();
        report.map_err(|_| anyhow!("the thread that compiles for the report panicked"))?
    }
}
