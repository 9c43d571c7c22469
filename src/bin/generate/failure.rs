use std::fmt;
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

/// The reader of standard output went away: nothing to say and nobody to say it to.
#[derive(Debug)]
pub struct ClosedPipe;

impl fmt::Display for ClosedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for ClosedPipe {}

/// Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Reports how a command ended, in one sentence if badly.
pub fn report(result: anyhow::Result<u8>) -> ExitCode {
    let error = match result {
        Ok(code) => return ExitCode::from(code),
        Err(error) => error,
    };
    if error.is::<ClosedPipe>() {
        return ExitCode::SUCCESS;
    }
    if matches!(error.downcast_ref(), Some(Error::Cancelled)) {
        return ExitCode::from(INTERRUPTED);
    }
    // `{:#}` joins the causes into one line.
    eprintln!("generate: {error:#}");
    let usage = error.is::<Usage>() || matches!(error.downcast_ref(), Some(Error::Invalid(_)));
    ExitCode::from(if usage { 2 } else { 1 })
}
