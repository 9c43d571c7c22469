//! How a command ends.

use std::fmt;
use std::io::{self, Write};

use virtual_gpu::LaunchError;
use virtual_gpu::case::CaseError;

/// Why a command could not do what it was asked for.
pub enum Failure {
    /// The user can change something: the command line, the case, the kernel.
    Use(anyhow::Error),
    /// Anything else: a file that cannot be written, no NVRTC.
    Other(anyhow::Error),
}

impl Failure {
    /// A failure of use, in one sentence.
    pub fn bad_use(message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::Use(anyhow::Error::msg(message))
    }

    /// Exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Use(_) => 2,
            Self::Other(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Use(error) | Self::Other(error)) = self;
        write!(f, "{error:#}")
    }
}

impl From<CaseError> for Failure {
    fn from(error: CaseError) -> Self {
        Self::Use(error.into())
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self::Use(error.into())
    }
}

/// Prints to standard output. A reader that has gone away, such as `head`, is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Other(
            anyhow::Error::new(error).context("standard output"),
        )),
        _ => Ok(()),
    }
}
