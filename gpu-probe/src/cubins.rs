//! Compilation ahead, for machines that have no NVRTC.

use anyhow::{Context, Result, anyhow, ensure};
use gpu_probe::{ARCHITECTURES, MODULES, compile, cubin_name, find_nvrtc};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use stheno_jit::Target;

/// Compiles every module for every architecture, and gives a table of what each kernel takes.
///
/// # Errors
/// There is no NVRTC, it fails, a kernel spills, or the folder cannot be written.
pub fn write(folder: &Path, nvrtc: Option<PathBuf>) -> Result<String> {
    let nvrtc = find_nvrtc(nvrtc, None)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut table = format!(
        "{:<10} {:<20} {:>9} {:>12} {:>12}\n",
        "for", "kernel", "registers", "spill bytes", "shared bytes"
    );
    let mut spilling = Vec::new();
    for architecture in ARCHITECTURES {
        for module in MODULES {
            let compiled = compile(&nvrtc, module, Target::Real(architecture.to_owned()))?;
            let cubin = compiled
                .cubin
                .ok_or_else(|| anyhow!("NVRTC gave no cubin for {}", module.name))?;
            let path = folder.join(cubin_name(module.name, architecture));
            fs::write(&path, cubin).with_context(|| format!("cannot write {}", path.display()))?;
            for kernel in compiled
                .resources
                .iter()
                .filter(|resources| resources.kernel)
            {
                let spilled = kernel.spill_stores + kernel.spill_loads;
                let (name, registers, shared) = (&kernel.name, kernel.registers, kernel.shared);
                writeln!(
                    table,
                    "{architecture:<10} {name:<20} {registers:>9} {spilled:>12} {shared:>12}"
                )?;
                if spilled > 0 {
                    spilling.push(format!("{name} for {architecture}"));
                }
            }
        }
    }
    ensure!(
        spilling.is_empty(),
        "{table}kernels spill registers, and their times would mean nothing: {}",
        spilling.join(", ")
    );
    Ok(table)
}
