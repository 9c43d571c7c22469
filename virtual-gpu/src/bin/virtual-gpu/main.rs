//! `virtual-gpu`: runs, checks and counts CUDA kernels on a machine without a GPU.

mod arguments;
mod info;
mod kernel;
mod outcome;
mod report;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs CUDA kernels on the CPU: exact, checked like a sanitizer, counted like a profiler.
#[derive(Parser)]
#[command(name = "virtual-gpu", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ran without a finding, 3 ran with findings, 2 bad use or a kernel that cannot be \
                          loaded, 1 anything else.";

#[derive(Subcommand)]
enum Command {
    /// Runs the launch that a case file describes and reports what the checks found.
    Run(run::Run),
    /// Says what the kernels of a PTX file take, or why they cannot be run.
    Info(info::Info),
    /// Lists the devices that can be imitated.
    Profiles,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => run.execute(),
        Command::Info(info) => info.execute(),
        Command::Profiles => info::profiles(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("virtual-gpu: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
