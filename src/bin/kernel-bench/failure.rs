use std::fmt;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use stheno::Error;

/// A mistake on the command line, told apart from faults at run time by its exit code.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Reports how a command ended, in one sentence if badly.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let broken = |io: &std::io::Error| io.kind() == ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(broken) {
        return ExitCode::SUCCESS;
    }
    // `{:#}` joins the causes into one line.
    eprintln!("kernel-bench: {error:#}");
    let usage = error.is::<Usage>() || matches!(error.downcast_ref(), Some(Error::Invalid(_)));
    ExitCode::from(if usage { 2 } else { 1 })
}

/// Writes to standard output.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}
