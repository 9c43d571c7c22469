use std::path::PathBuf;

/// Result of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, each with what was at fault and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine, or a checkpoint that it reads.
    #[error(transparent)]
    Engine(#[from] stheno::Error),
    /// A file could not be opened, read or written.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said. The message has it, so that it is no `source` of the error: it would be told twice.
        cause: std::io::Error,
    },
    /// A file contradicts its format.
    #[error("{path}: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// An argument is out of range.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// For `map_err` after an operation on `path`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |cause| Error::Io { path, cause }
    }

    pub(crate) fn malformed(path: impl Into<PathBuf>, reason: impl Into<String>) -> Error {
        Error::Malformed {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
