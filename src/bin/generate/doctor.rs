use crate::output::print;
use anyhow::Result;
use std::path::PathBuf;
use stheno::engine::default_threads;

/// `generate doctor`: what this machine offers and what will be used.
pub fn run() -> Result<u8> {
    let cpu = cpu_features();
    let found = cpu
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name);
    let missing = cpu
        .iter()
        .filter(|(_, there)| !*there)
        .map(|(name, _)| *name);
    let hub = hub_cache().map_or("nowhere (no home directory)".to_owned(), |path| {
        let there = if path.is_dir() { "" } else { " (not there)" };
        format!("{}{there}", path.display())
    });
    let download = if cfg!(feature = "hub") {
        "a model that the cache does not hold is downloaded"
    } else {
        "nothing is downloaded; build with `--features hub` for that"
    };
    let lines = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "system",
            format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        ),
        ("threads", format!("{} (-t changes it)", default_threads())),
        ("cpu has", join(found)),
        ("cpu lacks", join(missing)),
        (
            "models",
            "a directory with config.json and *.safetensors, or a .gguf file".to_owned(),
        ),
        ("hub cache", hub),
        ("hub", download.to_owned()),
        (
            "driver, NVRTC",
            "not looked for: this version has no CUDA executor".to_owned(),
        ),
        (
            "device",
            "host (the only executor of this version)".to_owned(),
        ),
    ];
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &lines {
        print(&format!("{name:width$}  {value}\n"))?;
    }
    Ok(0)
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        "nothing of interest".to_owned()
    } else {
        names.join(", ")
    }
}

/// Instruction sets that the host executor makes use of, and whether they are there.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    vec![
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<(&'static str, bool)> {
    vec![("x86-64 (the portable path is used)", false)]
}

/// Where the hub's own tools keep models.
fn hub_cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME")?.join("hub")))
        .or_else(|| Some(variable("HOME")?.join(".cache/huggingface/hub")))
}
