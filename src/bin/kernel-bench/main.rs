//! `kernel-bench`: what single ops of the decode program cost, for people who write kernels. A benchmark is a phase of a
//! compiled program, launched by itself; nothing is written twice to be measured.

mod accept;
mod args;
mod bench;
mod cases;
mod compiler;
mod counters;
mod estimate;
mod failure;
mod list;
mod place;
mod plot;
mod rates;
mod record;
mod rows;
mod run;
mod shape;
mod suite;
mod table;
mod timing;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap exits with 2 by itself on a mistake.
    let cli = Cli::parse();
    failure::report(match &cli.command {
        Command::List => list::run(),
        Command::Run(args) => run::run(args),
        Command::Report(args) => suite::run(args),
    })
}
