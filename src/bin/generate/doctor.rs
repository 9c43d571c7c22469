use crate::output::print;
use anyhow::Result;
use std::path::PathBuf;
use stheno::device::{DeviceFacts, Survey};
use stheno::engine::{Device, default_threads};

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
    let mut lines = vec![
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
    ];
    lines.extend(devices(&Survey::look()));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &lines {
        // Some values are lists of several lines.
        let value = value.replace('\n', &format!("\n{:width$}  ", ""));
        print(&format!("{name:width$}  {value}\n"))?;
    }
    Ok(0)
}

/// What there is of GPUs, and what comes of it.
fn devices(found: &Survey) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    match &found.cuda {
        Ok(cuda) => {
            lines.push(("driver", format!("CUDA {}", release(cuda.version))));
            for device in &cuda.devices {
                let facts = facts(&device.facts);
                lines.push(("gpu", format!("cuda:{} is {facts}", device.ordinal)));
            }
        }
        Err(error) => lines.push(("driver", error.to_string())),
    }
    lines.push((
        "NVRTC",
        found.nvrtc().map_or_else(ToString::to_string, |nvrtc| {
            let (major, minor) = nvrtc.version();
            format!("{major}.{minor}, {}", nvrtc.path().display())
        }),
    ));
    let path = |path: &PathBuf| path.display().to_string();
    let virtual_driver = found.virtual_driver.as_ref();
    lines.push((
        "virtual gpu",
        virtual_driver.map_or_else(ToString::to_string, path),
    ));
    let cache = found.cache.as_ref();
    lines.push((
        "kernel cache",
        cache.map_or("nowhere (no home directory)".to_owned(), path),
    ));
    let (device, reason) = Device::choose(found);
    lines.push(("device", format!("{device}: {reason}")));
    lines
}

fn facts(facts: &DeviceFacts) -> String {
    let (major, minor) = facts.compute_capability;
    let imitated = if facts.is_virtual {
        ", imitated on the CPU"
    } else {
        ""
    };
    let alone = if facts.cooperative_launch {
        ""
    } else {
        ", no cooperative launches"
    };
    format!(
        "{}{imitated}: compute capability {major}.{minor}, {} multiprocessors, {:.1} GiB, L2 {} MiB, {} KiB of shared \
         memory a block, {} registers a multiprocessor{alone}",
        facts.name,
        facts.sm_count,
        facts.memory_bytes as f64 / (1_u64 << 30) as f64,
        facts.l2_bytes >> 20,
        facts.shared_memory_per_block >> 10,
        facts.registers_per_sm,
    )
}

/// 12.8 for 12080.
fn release(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
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
