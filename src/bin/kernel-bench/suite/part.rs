use super::bits::Bits;
use super::harness::Tests;
use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// What a part leaves, and so what it is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// JSON of `gpu-probe`.
    Probe,
    /// The log of a test program.
    Tests,
    /// The log of a test program, and the bits that it compared with those of the virtual GPU.
    Ops,
    /// JSON of `kernel-bench run`.
    Bench,
    /// JSON of the same form, of another program.
    Compare,
    /// JSON of `llama-bench` or of `generate bench`: tokens a second.
    Tokens,
}

/// How a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Passed,
    Failed,
    TimedOut,
    /// It was not run, for want of something that the suite can do without.
    Skipped,
}

/// One process of the suite.
#[derive(Debug, Serialize)]
pub struct Part {
    pub name: String,
    pub kind: Kind,
    pub status: Status,
    /// Why, unless it passed.
    pub why: Option<String>,
    /// Exit code; none of a part that was skipped.
    pub exit: Option<i32>,
    pub seconds: f64,
    /// Seconds after which it was stopped.
    pub limit: f64,
    pub tests: Option<Tests>,
    pub bits: Option<Bits>,
    /// What the part wrote as JSON.
    pub report: Option<Value>,
}

/// Exit codes of `timeout`, which stops parts: it ran out, and it had to kill.
const TIMED_OUT: [i32; 2] = [124, 137];

impl Part {
    /// Reads a line of `parts.tsv` (name, kind, exit code or `skipped`, seconds, limit or the reason) and what the part left.
    pub fn read(folder: &Path, line: &str, is_virtual: bool) -> Result<Part> {
        let wrong = || anyhow!("parts.tsv: `{line:.100}` is not the line of a part");
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, kind, exit, seconds, last] = fields[..] else {
            return Err(wrong());
        };
        let kind = match kind {
            "probe" => Kind::Probe,
            "tests" => Kind::Tests,
            "ops" => Kind::Ops,
            "bench" => Kind::Bench,
            "compare" => Kind::Compare,
            "tokens" => Kind::Tokens,
            _ => return Err(wrong()),
        };
        let mut part = Part {
            name: name.to_owned(),
            kind,
            status: Status::Skipped,
            why: None,
            exit: None,
            seconds: 0.0,
            limit: 0.0,
            tests: None,
            bits: None,
            report: None,
        };
        if exit == "skipped" {
            part.why = Some(last.to_owned());
            return Ok(part);
        }
        part.exit = Some(exit.parse().map_err(|_| wrong())?);
        part.seconds = seconds.parse().map_err(|_| wrong())?;
        part.limit = last.parse().map_err(|_| wrong())?;
        part.why = part.judge(folder, is_virtual);
        part.status = match (&part.why, part.exit) {
            (_, Some(exit)) if TIMED_OUT.contains(&exit) => Status::TimedOut,
            (None, _) => Status::Passed,
            (Some(_), _) => Status::Failed,
        };
        Ok(part)
    }

    /// Takes what the part left. Why it has not passed, if it has not.
    fn judge(&mut self, folder: &Path, is_virtual: bool) -> Option<String> {
        let log = std::fs::read(folder.join(format!("{}.log", self.name)));
        let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
        let left = self.take(folder, &log);
        let last = || {
            let last = log.lines().rev().find(|line| !line.trim().is_empty());
            last.unwrap_or("it said nothing").trim().to_owned()
        };
        match self.exit {
            Some(exit) if TIMED_OUT.contains(&exit) => {
                return Some(format!("it ran longer than {:.0} s", self.limit));
            }
            Some(0) => {}
            exit => {
                let failed = self.tests.as_ref().and_then(Tests::first_failure);
                let exit = exit.unwrap_or(-1);
                return Some(match failed {
                    Some(test) => format!("exit {exit}: {test}"),
                    None => format!("exit {exit}: {:.300}", last()),
                });
            }
        }
        if let Err(error) = left {
            return Some(format!("{error:#}"));
        }
        if self.is_virtual() == Some(true) && !is_virtual {
            return Some("its device is imitated, and a GPU was asked for".to_owned());
        }
        if let Some(tests) = &self.tests {
            if tests.passed == 0 {
                return Some("it ran no test".to_owned());
            }
            if let Some(test) = tests.first_failure() {
                return Some(format!("exit 0, but {test}"));
            }
        }
        let differing = self.bits.as_ref().map_or(0, |bits| bits.differing);
        (differing > 0).then(|| format!("{differing} bytes are not those of the virtual GPU"))
    }

    fn take(&mut self, folder: &Path, log: &str) -> Result<()> {
        match self.kind {
            Kind::Tests | Kind::Ops => self.tests = Some(Tests::read(log)),
            Kind::Probe | Kind::Bench | Kind::Compare | Kind::Tokens => {
                let name = format!("{}.json", self.name);
                let bytes = std::fs::read(folder.join(&name)).with_context(|| name.clone())?;
                let report = serde_json::from_slice(&bytes);
                self.report = Some(report.with_context(|| format!("{name} is no JSON"))?);
            }
        }
        if self.kind == Kind::Ops {
            self.bits = Some(Bits::read(&folder.join(format!("{}.bits", self.name)))?);
        }
        Ok(())
    }

    /// The device as the part describes it.
    pub fn device(&self) -> Option<&Value> {
        let report = self.report.as_ref()?;
        match self.kind {
            Kind::Probe => Some(report),
            _ => report.get("device").filter(|device| device.is_object()),
        }
    }

    /// Whether the part says that its device is imitated.
    pub fn is_virtual(&self) -> Option<bool> {
        let device = self.device()?;
        let said = device.get("virtual").or(device.get("is_virtual"));
        said.and_then(Value::as_bool)
    }
}
