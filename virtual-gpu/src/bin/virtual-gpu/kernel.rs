//! From the file of a kernel to a module, and to what the real compiler says of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use stheno_jit::{Cache, CompileError, FindOptions, Nvrtc, Request, Target};

use crate::outcome::Failure;

/// Where a kernel comes from.
pub enum Origin {
    /// CUDA C++.
    Source(PathBuf),
    /// PTX.
    Ptx(PathBuf),
}

/// A kernel's PTX, and the source that it was compiled from.
pub struct Loaded {
    /// The text.
    pub ptx: String,
    /// What messages call it.
    pub name: String,
    compiled: Option<(Nvrtc, Request)>,
}

impl Origin {
    /// Reads the file and compiles it, if it is CUDA C++, for `arch` (`compute_80`, `compute_90a`).
    pub fn load(&self, arch: &str) -> Result<Loaded, Failure> {
        match self {
            Self::Ptx(path) => Ok(Loaded {
                ptx: read(path)?,
                name: path.display().to_string(),
                compiled: None,
            }),
            Self::Source(path) => compile(path, arch),
        }
    }
}

/// Reads a text that the user names.
pub fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))
        .map_err(Failure::Use)
}

fn compile(path: &Path, arch: &str) -> Result<Loaded, Failure> {
    let source = read(path)?;
    // The plain name: it is what findings call the file.
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let nvrtc = find().map_err(Failure::Other)?;
    let mut request = Request::new(name, source, target(arch).map_err(Failure::Use)?);
    request.line_info = true;
    if request.source.contains("#include") {
        request.options = includes(&nvrtc).map_err(Failure::Other)?;
    }
    let compiled = nvrtc.compile(&request).map_err(|error| match error {
        CompileError::Call { .. } => Failure::Other(error.into()),
        _ => Failure::Use(error.into()),
    })?;
    let ptx = compiled
        .ptx
        .ok_or_else(|| Failure::Other(anyhow!("NVRTC gave no PTX for {}", path.display())))?;
    Ok(Loaded {
        ptx: with_plain_name(ptx, &request.name),
        name: path.display().to_string(),
        compiled: Some((nvrtc, request)),
    })
}

/// NVRTC puts the working directory before the name of the source, though the source did not come from there.
fn with_plain_name(ptx: String, name: &str) -> String {
    match std::env::current_dir() {
        Ok(folder) => ptx.replace(
            &format!("\"{}\"", folder.join(name).display()),
            &format!("\"{name}\""),
        ),
        Err(_) => ptx,
    }
}

/// Looks in the build directory that the program lies in, if it lies in one, and wherever NVRTC may be installed.
fn find() -> anyhow::Result<Nvrtc> {
    let options = match std::env::current_exe() {
        Ok(program) => FindOptions::for_project(program),
        Err(_) => FindOptions::default(),
    };
    Ok(Nvrtc::find(&options)?)
}

/// `compute_80` gives PTX alone; `compute_90a` is known to NVRTC by the name of the real architecture.
fn target(arch: &str) -> anyhow::Result<Target> {
    let number = arch.strip_prefix("compute_").unwrap_or(arch);
    if number.ends_with(['a', 'f']) {
        return Ok(Target::Real(format!("sm_{number}")));
    }
    let number = number
        .parse()
        .with_context(|| format!("`{arch}` is no architecture; write compute_80 or compute_90a"))?;
    Ok(Target::Virtual(number))
}

/// The headers of CUDA: where they are installed beside the library or in the usual place, else those that NVRTC itself
/// brings, kept with the cache.
fn includes(nvrtc: &Nvrtc) -> anyhow::Result<Vec<String>> {
    let library = nvrtc.path().parent().and_then(Path::parent);
    let places = [library, Some(Path::new("/usr/local/cuda"))];
    let folders = places
        .into_iter()
        .flatten()
        .map(|root| root.join("include"));
    let installed = folders
        .filter(|folder| folder.join("cuda_fp16.h").is_file())
        .map(|folder| format!("--include-path={}", folder.display()))
        .next();
    if let Some(option) = installed {
        return Ok(vec![option]);
    }
    let cache = Cache::default_directory().unwrap_or_else(std::env::temp_dir);
    Ok(nvrtc.headers(&cache.join("headers"))?.unwrap_or_default())
}

impl Loaded {
    /// Registers of a thread of `kernel` on the architecture `real`, as ptxas allots them; nothing for a kernel that was
    /// given as PTX or that does not compile for it.
    pub fn registers(&self, kernel: &str, real: &str) -> Option<u32> {
        let (nvrtc, request) = self.compiled.as_ref()?;
        let request = Request {
            target: Target::Real(real.to_owned()),
            ..request.clone()
        };
        let compiled = nvrtc.compile(&request).ok()?;
        Some(compiled.kernel(kernel)?.registers)
    }
}
