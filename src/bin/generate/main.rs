//! `generate`: flags, printing and exit codes around the library.

mod args;
mod bench;
mod chat;
mod doctor;
mod failure;
mod input;
mod interrupt;
mod load;
mod logits;
mod output;
mod perplexity;
mod plan;
mod run;
mod sampling;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap exits with 2 by itself on a mistake.
    let cli = Cli::parse();
    let result = match &cli.command {
        None => run::run(&cli.generate),
        Some(Command::Doctor) => doctor::run(),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Perplexity(args)) => perplexity::run(args),
        Some(Command::Plan(args)) => plan::run(args),
    };
    failure::report(result)
}
