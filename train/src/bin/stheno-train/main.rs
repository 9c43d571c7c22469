//! Makes drafts: answers of a target, its hidden states, training, and what the result gains.

mod args;
mod eval;
mod features;
mod interrupt;
mod plot;
mod progress;
mod resample;
mod target;
mod train;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Resample(args) => resample::run(args),
        Command::Features(args) => features::run(args),
        Command::Eagle3(args) => train::eagle3(args),
        Command::Medusa(args) => train::medusa(args),
        Command::Eval(args) => eval::run(args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("stheno-train: {error:#}");
            match is_usage(&error) {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Whether what was asked for cannot be, whatever is tried.
fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(stheno_train::Error::Invalid(_)))
            || matches!(cause.downcast_ref(), Some(stheno::Error::Invalid(_)))
    })
}
