//! `gpu-probe`: flags, progress and exit codes around the measurements.

mod args;
mod cubins;

use anyhow::{Context, Result, anyhow, bail};
use args::Args;
use clap::Parser;
use gpu_probe::measure::{ALL, Measurement};
use gpu_probe::{Bench, Driver, Effort, Gpu, Images, Report, find_nvrtc};
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap exits with 2 by itself on a mistake.
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}` joins the causes into one line.
            eprintln!("gpu-probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if args.list {
        let lines = ALL
            .iter()
            .map(|measurement| format!("{:<10} {}\n", measurement.name, measurement.about));
        return print(&lines.collect::<String>());
    }
    if let Some(folder) = &args.write_cubins {
        return print(&cubins::write(folder, args.nvrtc.clone())?);
    }
    let chosen = chosen(&args.only)?;
    let mut driver = Driver::open(args.device)?;
    let facts = driver.facts().clone();
    driver.use_images(match &args.cubin_dir {
        Some(folder) => Images::Folder(folder.clone()),
        // A virtual driver takes PTX of any version.
        None => Images::Compiler(find_nvrtc(
            args.nvrtc.clone(),
            (!facts.is_virtual).then_some(facts.driver_version),
        )?),
    });
    let effort = if args.quick {
        Effort::Quick
    } else {
        Effort::Full
    };
    let mut bench = Bench::new(&mut driver, effort)?;
    let mut rows = Vec::new();
    let mut failure = None;
    for measurement in chosen {
        eprintln!("gpu-probe: {}: {}", measurement.name, measurement.about);
        match measurement.run(&mut bench) {
            Ok(measured) => rows.extend(measured),
            // After a kernel that failed, the context is lost: what was measured is reported.
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let report = Report::new(facts, rows);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&report.to_string())?;
    failure.map_or(Ok(()), Err)
}

/// The measurements that `--only` names, all without it, in their order.
fn chosen(names: &[String]) -> Result<Vec<Measurement>> {
    let known = || {
        ALL.iter()
            .map(|measurement| measurement.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(name) = names
        .iter()
        .find(|name| ALL.iter().all(|measurement| measurement.name != **name))
    {
        bail!("there is no measurement {name}; there are {}", known());
    }
    let wanted = |measurement: &Measurement| {
        names.is_empty() || names.iter().any(|name| name == measurement.name)
    };
    Ok(ALL.into_iter().filter(wanted).collect())
}

fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader went away: nothing to say and nobody to say it to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| anyhow!("cannot write to standard output: {error}")),
    }
}
