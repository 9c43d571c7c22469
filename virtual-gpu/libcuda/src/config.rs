//! What the environment asks for.

use std::env::{VarError, var};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use virtual_gpu::{Arch, Checks, LaunchOptions, MmaMode, Profile};

/// The settings of a process; the crate's documentation lists the variables.
#[derive(Debug)]
pub struct Config {
    /// The device.
    pub profile: Profile,
    /// How launches run.
    pub options: LaunchOptions,
    /// Where counters go.
    pub counters: Option<PathBuf>,
    /// Whether every finding fails its launch.
    pub strict: bool,
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
        let checks = match text("VIRTUAL_GPU_CHECKS")?.as_deref() {
            None | Some("bounds") => Checks::Bounds,
            Some("none") => Checks::None,
            Some("all") => Checks::All,
            Some(other) => return Err(wrong("VIRTUAL_GPU_CHECKS", other, "none, bounds, all")),
        };
        let mma = match text("VIRTUAL_GPU_MMA")?.as_deref() {
            None | Some("exact") => MmaMode::Exact(arch(&profile)),
            Some("fast") => MmaMode::Fast,
            Some(other) => return Err(wrong("VIRTUAL_GPU_MMA", other, "exact, fast")),
        };
        let strict = match text("VIRTUAL_GPU_STRICT")?.as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(wrong("VIRTUAL_GPU_STRICT", other, "0, 1")),
        };
        let counters = text("VIRTUAL_GPU_COUNTERS")?.map(PathBuf::from);
        let mut options = LaunchOptions {
            checks,
            counters: counters.is_some(),
            seed: number("VIRTUAL_GPU_SEED")?.unwrap_or(0),
            mma,
            ..LaunchOptions::default()
        };
        if let Some(seconds) = number("VIRTUAL_GPU_HOST_WAIT")? {
            options.host_wait = Duration::from_secs(seconds);
        }
        Ok(Self {
            profile,
            options,
            counters,
            strict,
        })
    }
}

fn arch(profile: &Profile) -> Arch {
    match profile.capability {
        (8, 9) => Arch::Ada,
        (8, _) => Arch::Ampere,
        (9, _) => Arch::Hopper,
        _ => Arch::Blackwell,
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
