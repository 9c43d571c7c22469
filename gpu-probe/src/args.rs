use clap::Parser;
use std::path::PathBuf;

/// Measures on a GPU what Stheno's device program is designed around.
///
/// A table goes to standard output, progress to standard error. Nothing of the device's settings is changed. Needs the
/// NVIDIA driver, and NVRTC unless --cubin-dir names a folder that --write-cubins filled.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// The device to measure, as the driver numbers them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub device: u32,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure these alone, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// List the measurements
    #[arg(long)]
    pub list: bool,
    /// Fewer configurations, smaller buffers, fewer repeats
    #[arg(long)]
    pub quick: bool,
    /// libnvrtc.so or its directory [default: searched for, STHENO_NVRTC first]
    #[arg(long, value_name = "PATH")]
    pub nvrtc: Option<PathBuf>,
    /// Take compiled kernels from this folder instead of compiling them
    #[arg(long, value_name = "DIR", conflicts_with = "nvrtc")]
    pub cubin_dir: Option<PathBuf>,
    /// Compile the kernels for all architectures into this folder and report registers and spills; needs no GPU
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cubin_dir", "json", "only", "list", "quick"])]
    pub write_cubins: Option<PathBuf>,
}
