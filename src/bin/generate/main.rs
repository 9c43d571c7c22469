//! `generate`: flags, printing and exit codes around the library.

mod args;
mod bench;
mod chat;
mod colors;
mod doctor;
mod failure;
mod input;
mod interrupt;
mod load;
mod logits;
mod messages;
mod output;
mod perplexity;
mod plan;
mod profile;
mod questions;
mod run;
mod sampling;
mod speculation;
mod speculation_report;
mod trace;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap exits with 2 by itself on a mistake.
    let cli = Cli::parse();
    messages::install(match &cli.command {
        None => cli.generate.model.verbose,
        Some(Command::Doctor) => 0,
        Some(Command::Bench(args)) => args.model.verbose,
        Some(Command::Perplexity(args)) => args.model.verbose,
        Some(Command::Plan(args)) => args.model.verbose,
    });
    let result = match &cli.command {
        None => run::run(&cli.generate),
        Some(Command::Doctor) => doctor::run(),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Perplexity(args)) => perplexity::run(args),
        Some(Command::Plan(args)) => plan::run(args),
    };
    failure::report(result)
}
