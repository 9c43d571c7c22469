//! What the environment asks for.

use std::env::{VarError, var};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use virtual_gpu::{Checks, LaunchOptions, MmaMode, Profile};

/// The settings of a process; the crate's documentation lists the variables.
#[derive(Debug)]
pub struct Config {
    /// The device.
    pub profile: Profile,
    /// How launches run at the start.
    pub settings: Settings,
    /// Where counters go.
    pub counters: Option<PathBuf>,
    /// Where coverage goes at the end of the process.
    pub coverage: Option<PathBuf>,
}

/// What can be changed while the process runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How launches run.
    pub options: LaunchOptions,
    /// Whether every finding fails its launch.
    pub strict: bool,
}

impl Settings {
    /// Sets an option by its name; the error says what it may be.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "checks" => self.options.checks = checks(name, value)?,
            "counters" => self.options.counters = switch(name, value)?,
            "strict" => self.strict = switch(name, value)?,
            "seed" => {
                self.options.seed = value
                    .parse()
                    .map_err(|_| wrong(name, value, "a whole number"))?;
            }
            _ => return Err(wrong("an option", name, "checks, counters, seed, strict")),
        }
        Ok(())
    }
}

fn checks(name: &str, value: &str) -> Result<Checks, String> {
    match value {
        "none" => Ok(Checks::None),
        "bounds" => Ok(Checks::Bounds),
        "all" => Ok(Checks::All),
        other => Err(wrong(name, other, "none, bounds, all")),
    }
}

fn switch(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(wrong(name, other, "0, 1")),
    }
}

impl Config {
    /// Reads the environment; the error says which variable is wrong and what it may be.
    pub fn from_environment() -> Result<Self, String> {
        let name = text("VIRTUAL_GPU_PROFILE")?.unwrap_or_else(|| "h100".into());
        let mut profile = Profile::by_name(&name)
            .ok_or_else(|| wrong("VIRTUAL_GPU_PROFILE", &name, &Profile::NAMES.join(", ")))?;
        if let Some(count) = number("VIRTUAL_GPU_SMS")? {
            profile = profile.with_multiprocessors(count);
        }
        let checks = match text("VIRTUAL_GPU_CHECKS")? {
            None => Checks::Bounds,
            Some(value) => checks("VIRTUAL_GPU_CHECKS", &value)?,
        };
        let mma = match text("VIRTUAL_GPU_MMA")?.as_deref() {
            None | Some("exact") => MmaMode::Exact(profile.arch()),
            Some("fast") => MmaMode::Fast,
            Some(other) => return Err(wrong("VIRTUAL_GPU_MMA", other, "exact, fast")),
        };
        let strict = match text("VIRTUAL_GPU_STRICT")? {
            None => false,
            Some(value) => switch("VIRTUAL_GPU_STRICT", &value)?,
        };
        let coverage = text("VIRTUAL_GPU_COVERAGE")?.map(PathBuf::from);
        let counters = text("VIRTUAL_GPU_COUNTERS")?.map(PathBuf::from);
        let mut options = LaunchOptions {
            checks,
            counters: counters.is_some() || coverage.is_some(),
            seed: number("VIRTUAL_GPU_SEED")?.unwrap_or(0),
            mma,
            ..LaunchOptions::default()
        };
        if let Some(seconds) = number("VIRTUAL_GPU_HOST_WAIT")? {
            options.host_wait = Duration::from_secs(seconds);
        }
        Ok(Self {
            profile,
            settings: Settings { options, strict },
            counters,
            coverage,
        })
    }
}

fn text(name: &str) -> Result<Option<String>, String> {
    match var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => Err(wrong(name, value.display(), "UTF-8 text")),
    }
}

fn number<T: FromStr>(name: &str) -> Result<Option<T>, String> {
    let Some(value) = text(name)? else {
        return Ok(None);
    };
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(wrong(name, value, "a whole number")),
    }
}

fn wrong(name: &str, value: impl Display, allowed: &str) -> String {
    format!("{name} is `{value}`; it can be: {allowed}")
}
