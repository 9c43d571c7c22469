//! Where a device's kernels come from: a folder of cubins, or NVRTC.

use crate::gpu::Facts;
use crate::kernels::{Module, compile};
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::PathBuf;
use stheno_jit::{FindOptions, Nvrtc, Target};

/// The name under which a folder holds a module for an architecture.
pub fn cubin_name(module: &str, architecture: &str) -> String {
    format!("{module}.{architecture}.cubin")
}

/// A source of kernels.
#[derive(Debug)]
pub enum Images {
    /// A folder that `--write-cubins` filled.
    Folder(PathBuf),
    /// The compiler, which a virtual device needs always: it runs PTX.
    Compiler(Nvrtc),
}

/// Finds NVRTC; `path` names it, and the version of the driver that is to run its output limits it.
///
/// # Errors
/// There is none; the error says where was looked and what to do.
pub fn find_nvrtc(path: Option<PathBuf>, driver_version: Option<u32>) -> Result<Nvrtc> {
    let options = FindOptions {
        path,
        max_major: driver_version.map(|version| version / 1000),
        ..FindOptions::for_project(env!("CARGO_MANIFEST_DIR"))
    };
    Ok(Nvrtc::find(&options)?)
}

impl Images {
    /// What the driver loads for a module: a cubin, or PTX with the zero byte that ends it.
    ///
    /// # Errors
    /// The folder has no cubin for this device, or the compiler failed.
    pub fn load(&self, module: Module, facts: &Facts) -> Result<Vec<u8>> {
        let (major, minor) = facts.capability;
        match self {
            Images::Folder(folder) if facts.is_virtual => bail!(
                "{} runs PTX and no cubins as in {}; leave out --cubin-dir",
                facts.name,
                folder.display()
            ),
            Images::Folder(folder) => {
                let candidates = architectures(facts.capability);
                let paths = candidates
                    .iter()
                    .map(|name| folder.join(cubin_name(module.name, name)));
                let path = paths.into_iter().find(|path| path.is_file()).ok_or_else(|| {
                    anyhow!(
                        "{} has no cubin of {} for compute capability {major}.{minor} ({}); name an NVRTC with --nvrtc \
                         instead of --cubin-dir",
                        folder.display(),
                        module.name,
                        candidates.join(" or ")
                    )
                })?;
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
            }
            Images::Compiler(nvrtc) if facts.is_virtual => {
                let compiled = compile(nvrtc, module, Target::Virtual(major * 10 + minor))?;
                let ptx = compiled
                    .ptx
                    .ok_or_else(|| anyhow!("NVRTC gave no PTX for {}", module.name))?;
                Ok([ptx.as_bytes(), &[0]].concat())
            }
            Images::Compiler(nvrtc) => {
                let architecture = architectures(facts.capability).swap_remove(0);
                let compiled = compile(nvrtc, module, Target::Real(architecture))?;
                compiled
                    .cubin
                    .ok_or_else(|| anyhow!("NVRTC gave no cubin for {}", module.name))
            }
        }
    }
}

/// Architectures whose cubins run on a device, the best first. Those with `a` run on their own alone, the others on every
/// later one of the same major version.
fn architectures((major, minor): (u32, u32)) -> Vec<String> {
    let own = format!("sm_{major}{minor}");
    let mut names = match major {
        0..9 => vec![own],
        _ => vec![format!("{own}a"), own],
    };
    names.extend((0..minor).rev().map(|older| format!("sm_{major}{older}")));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubins_are_looked_for_from_the_best_down() {
        assert_eq!(architectures((9, 0)), ["sm_90a", "sm_90"]);
        assert_eq!(architectures((8, 6))[..2], ["sm_86", "sm_85"]);
        assert_eq!(
            architectures((8, 6)).last().map(String::as_str),
            Some("sm_80")
        );
        assert_eq!(architectures((12, 1)), ["sm_121a", "sm_121", "sm_120"]);
    }
}
