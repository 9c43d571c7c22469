use crate::args::{ModelArgs, ProfileArgs};
use crate::failure::Usage;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use stheno::engine::Engine;

/// What `--profile` asks for, if it is given.
#[derive(Debug)]
pub struct Profiling {
    wanted: Option<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    path: PathBuf,
    out: BufWriter<File>,
    calls: u32,
    by_layer: bool,
}

impl Profiling {
    /// Opens the file before a model is loaded: that it cannot be written is said soon.
    pub fn new(args: &ProfileArgs, model: &ModelArgs) -> Result<Self> {
        let Some(path) = &args.profile else {
            return Ok(Profiling { wanted: None });
        };
        if matches!(model.device.as_str(), "host" | "cpu") {
            return Err(host());
        }
        let file = File::create(path).with_context(|| format!("{}", path.display()))?;
        Ok(Profiling {
            wanted: Some(Wanted {
                path: path.clone(),
                out: BufWriter::new(file),
                calls: args.profile_calls,
                by_layer: model.verbose > 0,
            }),
        })
    }

    /// Calls of the device are recorded from now on.
    pub fn start(&self, engine: &Engine) -> Result<()> {
        if let Some(wanted) = &self.wanted {
            let executor = engine.device_executor().ok_or_else(host)?;
            executor.record(wanted.calls)?;
        }
        Ok(())
    }

    /// Writes the trace, and the table on standard error.
    pub fn finish(self, engine: &Engine) -> Result<()> {
        let (Some(mut wanted), Some(executor)) = (self.wanted, engine.device_executor()) else {
            return Ok(());
        };
        let profile = executor.take_profile()?;
        let profile = profile.context("--profile: no call of the device was recorded")?;
        let written = profile.write_trace(&mut wanted.out);
        let written = written.and_then(|()| wanted.out.flush());
        written.with_context(|| format!("{}", wanted.path.display()))?;
        eprint!("{}", profile.table(wanted.by_layer));
        eprintln!("{}", advice(&wanted.path));
        Ok(())
    }
}

fn host() -> anyhow::Error {
    let text = "--profile shows the phases of a device program, and the host runs none; take --device cuda or virtual";
    Usage(text.to_owned()).into()
}

fn advice(path: &Path) -> String {
    format!("trace: {}; open it in ui.perfetto.dev", path.display())
}
