//! `virtual-gpu info` and `virtual-gpu profiles`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use virtual_gpu::{KernelInfo, Module, Profile};

use crate::kernel;
use crate::outcome::{Failure, print};

/// Describes a PTX file.
#[derive(Args)]
pub struct Info {
    /// The PTX file
    ptx: PathBuf,
}

impl Info {
    /// Prints what each kernel takes; a kernel that cannot be run is named with the first line that is in the way.
    pub fn execute(&self) -> Result<u8, Failure> {
        let text = kernel::read(&self.ptx)?;
        let refused = |error| Failure::bad_use(format!("{}: {error}", self.ptx.display()));
        let unsupported = Module::unsupported(&text).map_err(refused)?;
        if !unsupported.is_empty() {
            let mut message = format!("{} cannot be run:", self.ptx.display());
            for (kernel, error) in unsupported {
                let _ = write!(message, "\n  {kernel}: {error}");
            }
            return Err(Failure::bad_use(message));
        }
        let module = Module::from_ptx(&text).map_err(refused)?;
        let (major, minor) = module.version();
        let mut out = format!(
            "{}: PTX {major}.{minor} for {}\n",
            self.ptx.display(),
            module.target()
        );
        for name in module.kernels() {
            if let Some(info) = module.kernel(name) {
                describe(&mut out, name, &info);
            }
        }
        print(&out)?;
        Ok(0)
    }
}

fn describe(out: &mut String, name: &str, info: &KernelInfo<'_>) {
    let sizes: Vec<String> = info
        .parameters()
        .iter()
        .map(|parameter| parameter.bytes.to_string())
        .collect();
    let limits = info.limits();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n{name}");
    let mut line = |what: &str, value: String| {
        let _ = writeln!(out, "  {what:<24}{value}");
    };
    line("instructions", info.instructions().to_string());
    line(
        "parameters",
        match sizes.len() {
            0 => "none".into(),
            n => format!(
                "{n}, of {} bytes ({} in all)",
                sizes.join(", "),
                info.parameter_bytes()
            ),
        },
    );
    line(
        "register rows",
        format!(
            "{} of 32 lanes, and {} predicates",
            info.register_rows(),
            info.predicates()
        ),
    );
    line(
        "static shared memory",
        format!("{} bytes", info.static_shared()),
    );
    line(
        "local memory",
        format!("{} bytes a thread", info.local_bytes()),
    );
    if limits.required != [0; 3] {
        line("threads required", format!("{:?}", limits.required));
    } else if limits.max_threads != 0 {
        line("threads at most", limits.max_threads.to_string());
    }
    if limits.max_registers != 0 {
        line("registers at most", limits.max_registers.to_string());
    }
    if limits.cluster.iter().any(|n| *n > 1) {
        line("clusters", format!("{:?}", limits.cluster));
    }
}

/// Prints a line for each device.
pub fn profiles() -> Result<u8, Failure> {
    let mut out = String::new();
    for name in Profile::NAMES {
        let Some(profile) = Profile::by_name(name) else {
            continue;
        };
        let (major, minor) = profile.capability;
        let _ = writeln!(
            out,
            "{name:<10}{}: compute capability {major}.{minor}, {} multiprocessors at {} MHz, {} GiB at {:.0} GB/s, L2 {} MiB, \
             shared memory {} KiB and {} threads a multiprocessor, {:.0} TFLOP/s in bf16 at that clock",
            profile.name,
            profile.multiprocessors,
            profile.clock / 1000,
            profile.memory >> 30,
            profile.bandwidth() / 1e9,
            profile.l2 >> 20,
            profile.shared_per_multiprocessor >> 10,
            profile.threads,
            f64::from(profile.multiprocessors)
                * f64::from(profile.rates.tensor)
                * f64::from(profile.clock)
                / 1e9
        );
    }
    print(&out)?;
    Ok(0)
}
