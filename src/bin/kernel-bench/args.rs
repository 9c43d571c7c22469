use crate::cases::OpName;
use crate::estimate::EDGE_US;
use crate::shape::Shape;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use stheno::model::RandomFormat;

/// Measures ops of the decode program: with events on a GPU; without one in counters of the virtual GPU, the compiler's report
/// and an estimate.
///
/// The table goes to standard output, progress to standard error. Exit codes: 0, 1 for a fault at run time, 2 for a mistake on
/// the command line.
#[derive(Debug, Parser)]
#[command(name = "kernel-bench", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists ops, shapes and formats.
    List,
    /// Measures.
    Run(Box<RunArgs>),
    /// Makes one report of what scripts/gpu-suite.sh found on a device.
    Report(ReportArgs),
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The folder of results: parts.tsv, and for each part its log, JSON and compared bits; report.json and report.md go there
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The device that was asked for
    #[arg(long, default_value = "cuda:0")]
    pub device: String,
    /// Says that less was measured than could be
    #[arg(long)]
    pub quick: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Ops, or `linear`, `choose`, `draft` or `all` for several
    #[arg(long, value_name = "OP,...", value_delimiter = ',', value_parser = OpName::parse, default_value = "all")]
    pub op: Vec<OpName>,
    /// Models by name, or matrices NxK of N outputs and K inputs
    #[arg(
        long,
        value_name = "MODEL|NxK,...",
        value_delimiter = ',',
        default_value = "llama-3.2-1b"
    )]
    pub shape: Vec<Shape>,
    /// Rows of a call of the model, 1 to 64; calls of drafts have their own
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "1,8,16,32,64"
    )]
    pub rows: Vec<u32>,
    /// Formats of weights
    #[arg(
        long,
        value_name = "FORMAT,...",
        value_delimiter = ',',
        default_value = "bf16,fp8,int4"
    )]
    pub format: Vec<RandomFormat>,
    /// Positions before the call, for attention and whole steps
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "512"
    )]
    pub context: Vec<u32>,
    /// Layers of a model [default: all]; the virtual GPU runs two, and the first counts for the others
    #[arg(long, value_name = "N")]
    pub layers: Option<u32>,
    /// Rows that programs are laid out for: 8, 16, 32 or 64 [default: the least that holds a call's]
    #[arg(long, value_name = "N")]
    pub layout: Option<u32>,
    /// Small shapes in all formats, drafts in two, which take minutes on the virtual GPU; replaces --shape, --format, --layout and --context
    #[arg(long, conflicts_with_all = ["shape", "format", "layout", "context", "layers"])]
    pub all_small: bool,
    /// Where: auto (a GPU if there is one, else virtual), cuda, cuda:N or virtual
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Multiprocessors of the virtual GPU [default: the 132 of an H100]
    #[arg(long, value_name = "N")]
    pub sms: Option<u32>,
    /// Microseconds that an edge between two ops costs, for estimates: fence, counter, wait, the first loads after it and the last sums before it
    #[arg(long, value_name = "X", default_value_t = EDGE_US)]
    pub edge_us: f64,
    /// Measurements of each op on a GPU
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub iterations: u32,
    /// Tokens that a round of verification gives: says what rounds of each number of rows would make of that (ops step, tree-verify), with the cost of guessing where a draft's ops are measured
    #[arg(long, value_name = "X,...", value_delimiter = ',')]
    pub simulate_accept_len: Vec<f64>,
    /// Writes everything that was found
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws time against rows, a line a format
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}
